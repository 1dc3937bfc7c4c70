#!/bin/sh
# Films of every make through colorize with lossless output: film_matrix.sh UNFADE WEIGHTS [CASES] [SEED]
# Containers x codecs x pixel formats x colour tags x timing x sound, subtitles, chapters, attachments, drawn by a seed. The luma is
# the same to the bit, so are all timestamps, what ffprobe tells of streams, chapters and tags, and every copied packet.
set -u
unfade=$1 weights=$2 cases=${3:-12} seed=${4:-1} failed=0 made=0
[ -f "$weights" ] || exit 77
command -v ffmpeg >/dev/null 2>&1 || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
printf '1\n00:00:00,100 --> 00:00:00,300\nA word\n\n2\n00:00:00,500 --> 00:00:00,700\nanother\n' >words.srt
printf ';FFMETADATA1\ntitle=Reel 7\nartist=Aunt M.\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=Harbour\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=800\ntitle=Wedding\n' >chapters.txt
printf 'what is written on the tin\n' >tin.txt

# One case a line: container, encoder, pixel format, and how the rest is laid out.
draw() {
    awk -v n="$cases" -v seed="$seed" '
    function pick(list, a, k) { k = split(list, a, " "); return a[int(rand() * k) + 1] }
    BEGIN {
        srand(seed)
        codecs["mkv"] = "ffv1 ffv1 libx264 libx265 mpeg2video mpeg4 prores_ks rawvideo huffyuv libvpx-vp9 mjpeg dnxhd"
        codecs["mp4"] = "libx264 libx264 libx265 mpeg4 libvpx-vp9"
        codecs["mov"] = "libx264 prores_ks png mjpeg mpeg4"
        codecs["avi"] = "ffv1 mpeg4 huffyuv rawvideo"
        codecs["webm"] = "libvpx-vp9 libvpx"
        formats["ffv1"] = "gray gray10le gray12le gray16le yuv420p yuv422p yuv444p yuv420p10le yuv422p12le yuv444p16le yuva420p gbrp bgr0 yuv410p yuv411p"
        formats["libx264"] = "yuv420p yuv422p yuv444p yuv420p10le yuv422p10le gray yuvj420p"
        formats["libx265"] = "yuv420p yuv422p10le gray yuv444p10le"
        formats["mpeg2video"] = "yuv420p yuv422p"
        formats["mpeg4"] = "yuv420p"
        formats["prores_ks"] = "yuv422p10le"
        formats["rawvideo"] = "yuv420p yuv422p gray"
        formats["huffyuv"] = "yuv422p rgb24"
        formats["libvpx-vp9"] = "yuv420p yuv444p yuv420p10le"
        formats["libvpx"] = "yuv420p"
        formats["mjpeg"] = "yuvj420p yuvj422p yuvj444p"
        formats["png"] = "rgb24 gray rgba"
        formats["dnxhd"] = "yuv422p"
        for (i = 0; i < n; i++) {
            c = pick("mkv mkv mkv mp4 mp4 mov avi webm"); v = pick(codecs[c]); f = pick(formats[v])
            if (c == "avi" && v == "rawvideo") f = "yuv420p"
            size = v == "dnxhd" ? "1280x720" : f ~ /^yuv41/ ? "96x64" : f ~ /42[02]|mpeg/ || v == "mpeg4" || v == "mpeg2video" ? pick("96x64 96x66 130x98") : pick("96x64 97x65 131x99")
            if (f !~ /gray|444|gbrp|bgr0|rgb/ && v != "ffv1") size = v == "dnxhd" ? size : pick("96x64 96x66 130x98")
            rate = v == "mpeg2video" || v == "dnxhd" ? pick("25 30000/1001") : pick("25 24 30000/1001 50 15")
            tags = pick("none bt601 bt709 pal full bt2020")
            if (tags == "bt2020" && f !~ /1[026]le/) tags = "bt709"
            if (c == "avi" && tags == "full") tags = "none" # AVI cannot tell
            if (c == "avi" && v == "ffv1") f = pick("yuv420p yuv422p yuv444p10le bgr0") # nor grey, which is full
            if (v == "libvpx") tags = pick("none pal") # VP8 knows one matrix,
            if (v == "dnxhd") tags = pick("none bt709") # so does this
            timing = c == "avi" || v == "mpeg2video" || v == "dnxhd" || v == "mpeg4" ? "even" : pick("even even uneven late gap")
            sound = pick("none one two six")
            words = c == "avi" || c == "webm" ? "no" : pick("no yes")
            chapters = c == "avi" || c == "webm" ? "no" : pick("no yes")
            tin = c == "mkv" ? pick("no yes") : "no"
            turn = c == "mp4" || c == "mov" ? pick("0 0 90 180") : 0
            aspect = pick("1/1 16/15 4/3")
            print c, v, f, size, rate, tags, timing, sound, words, chapters, tin, turn, aspect
        }
    }'
}

generate() { # the arguments are a line of draw(); makes in.$1
    in="in.$1"
    tag="" time="" extra="" more="" maps="-map 0:v" n=1 frames=20
    case $6 in
    bt601) tag="-colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m" ;;
    bt709) tag="-colorspace bt709 -color_primaries bt709 -color_trc bt709" ;;
    pal) tag="-colorspace bt470bg -color_primaries bt470bg -color_trc gamma28" ;;
    full) tag="-color_range pc" ;;
    bt2020) tag="-colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084" ;;
    esac
    case $3 in gbrp | bgr0 | rgb* | yuvj*) tag="" ;; esac
    case $7 in
    uneven) time=",settb=1/1000,setpts=N*60+13*mod(N\,3)" extra="-enc_time_base 1:1000" ;;
    gap) time=",setpts='(N+7*gt(N\,9)+.01)/FR/TB'" ;;
    late) extra="-output_ts_offset 0.48" ;;
    esac
    case $8 in
    one) more="-f lavfi -i sine=440:d=0.8" maps="$maps -map $n:a" n=$((n + 1)) ;;
    two) more="-f lavfi -i sine=440:d=0.8 -f lavfi -i sine=660:d=0.7" maps="$maps -map $n:a -map $((n + 1)):a" n=$((n + 2)) ;;
    six) more="-f lavfi -i aevalsrc=0.1*sin(300*t)|0|0.1|0|0.2*sin(700*t)|0:c=5.1:d=0.8" maps="$maps -map $n:a" n=$((n + 1)) ;;
    esac
    [ "$9" = yes ] && more="$more -i words.srt" && maps="$maps -map $n:s" && n=$((n + 1))
    shift 9
    [ "$1" = yes ] && more="$more -i chapters.txt" && maps="$maps -map_metadata $n -map_chapters $n" && n=$((n + 1))
    [ "$2" = yes ] && extra="$extra -attach tin.txt -metadata:s:t mimetype=text/plain"
    [ "$3" != 0 ] && extra="$extra -metadata:s:v rotate=$3"
    sar=$4
    case $in in
    *.mkv) a="-c:a flac" s="-c:s srt" ;;
    *.mp4) a="-c:a aac" s="-c:s mov_text" ;;
    *.mov) a="-c:a pcm_s16le" s="-c:s mov_text" ;;
    *.avi) a="-c:a mp2" s="" ;;
    *.webm) a="-c:a libopus" s="" ;;
    esac
    case $in:$a in *.avi:*) [ "$sound" = six ] && a="-c:a ac3" ;; esac
    quality="-q:v 4"
    case $codec in libx264 | libx265) quality="-crf 20 -preset ultrafast -bf 2" ;; libvpx*) quality="-crf 20 -b:v 1M -cpu-used 8 -deadline realtime" ;;
    dnxhd) quality="-profile:v dnxhr_hq" ;; esac
    [ "$codec" = libx265 ] && quality="$quality -x265-params log-level=none"
    # shellcheck disable=SC2086 # words on purpose
    ffmpeg -nostdin -v error -y -f lavfi -i "testsrc2=s=$size:r=$rate:d=1" $more $maps -vf "format=$format$time,setsar=$sar" -frames:v $frames -fps_mode passthrough \
        -c:v "$codec" -pix_fmt "$format" $quality $tag $a $s -metadata:s:a:0 language=deu -disposition:v default -metadata comment="a case" $extra "$in" 2>ffmpeg.log
}

luma() { ffmpeg -nostdin -v error -noautorotate -i "$1" -map 0:v:0 -vf extractplanes=y -fps_mode passthrough -f framemd5 - | grep -v '^#' | awk '{print $NF}'; }
copied() { ffmpeg -nostdin -v error -copyts -i "$1" -map 0 -map -0:v -map -0:t? -c copy -f framemd5 - 2>/dev/null | grep -v '^#' | sort; }
stamps() { # all packets' times, in ms: what mkv can hold
    ffprobe -v error -show_entries packet=stream_index,pts_time -of csv=p=0 "$1" | awk -F, '{printf "%d %d\n", $1, $2 * 1000 + .5}' | sort -n -k1,1 -k2,2
}
tables() {
    ffprobe -v error -show_chapters -show_entries "stream=index,codec_type,width,height,sample_aspect_ratio,color_range,color_space,color_primaries,color_transfer,sample_rate,channels,channel_layout:stream_disposition:stream_tags=language,title,filename,mimetype:stream_side_data=rotation:format_tags=title,artist,comment:chapter_tags=title" \
        -of flat "$1" | grep -v -e 'time_base' -e '\.start=' -e '\.end=' -e 'chapter.*\.id=' -e 'sample_aspect_ratio="N/A"'
}
told() { # what the input says; what it leaves open (a grey film has no matrix) the output may say; RGB films come out as YCbCr
    printf '%s\n' "$1" | grep -v -e '="unknown"' $(case $format in gbrp | bgr0 | rgb*) echo "-e color_range -e color_space" ;; esac)
}
settled() { # of the tables $2, the lines whose key is known in $1
    told "$1" | sed 's/=.*/=/' >keys.txt
    printf '%s\n' "$2" | grep -F -f keys.txt
}
differ() { # NAME A B
    [ "$2" = "$3" ] && return 1
    printf '%s\n' "$2" >a.txt
    printf '%s\n' "$3" >b.txt
    echo "FAILED: $1 of: $line" && diff a.txt b.txt | head -8
}

draw >cases.txt
while read -r line; do
    # shellcheck disable=SC2086 # words on purpose
    set -- $line
    codec=$2 format=$3 size=$4 rate=$5 sound=$8
    rm -f in.* out.*
    ffmpeg -hide_banner -encoders 2>/dev/null | grep -q " $codec " || continue
    if ! generate "$@"; then
        echo "ffmpeg makes no: $line: $(tail -1 ffmpeg.log)"
        continue
    fi
    made=$((made + 1)) out="out.$1"
    case $1 in
    mkv | avi) set -- --codec ffv1 "$in" "$out" ;;
    mp4 | mov) set -- --codec libx264 "$in" "$out" -- -qp 0 ;;
    webm) set -- --codec libvpx-vp9 "$in" "$out" -- -lossless 1 -cpu-used 8 ;;
    esac
    if ! "$unfade" colorize -q --size 64 --weights "$weights" "$@" >said 2>&1 </dev/null; then
        echo "FAILED: $line: $(cat said)"
        failed=$((failed + 1))
        continue
    fi
    wrong=0
    case $format in
    gbrp | bgr0 | rgb*) ;; # no luma in there
    *) differ luma "$(luma "$in")" "$(luma "$out")" && wrong=1 ;;
    esac
    differ times "$(stamps "$in")" "$(stamps "$out")" && wrong=1
    known=$(tables "$in")
    differ tables "$(told "$known")" "$(settled "$known" "$(tables "$out")")" && wrong=1
    differ "copied packets" "$(copied "$in")" "$(copied "$out")" && wrong=1
    failed=$((failed + wrong))
done <cases.txt
echo "$made films of $cases cases, $failed wrong"
[ "$failed" -eq 0 ] && [ "$made" -gt $((cases * 3 / 4)) ]
