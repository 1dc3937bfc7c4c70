#!/bin/sh
# Real films through the real program: media.sh UNFADE WEIGHTS. What must be exact is compared by ffmpeg, and whatever
# fails must say one sentence and leave nothing behind. WEIGHTS that are not there: skipped, 77.
set -u
unfade=$1 weights=$2 failed=0 passed=0
if [ ! -f "$weights" ]; then
    echo "no color weights at '$weights': films are not tested"
    exit 77
fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
mkdir out

ok() { passed=$((passed + 1)); }
bad() {
    echo "FAILED: $*"
    failed=$((failed + 1))
}
same() { # NAME A B: both said something, and the same
    if [ -n "$2" ] && [ "$2" = "$3" ]; then ok; else bad "$1 differs:" && printf '%s\n---\n%s\n' "$2" "$3" | head -20; fi
}
colour() { "$unfade" colorize -q --size 64 --weights "$weights" "$@"; }
luma() { ffmpeg -v error -i "$1" -map 0:v:0 -vf "${2:-}extractplanes=y" -f framemd5 - | grep -v '^#' | awk '{print $NF}'; }
sound() { ffmpeg -v error -i "$1" -map 0:a -c copy -f framemd5 - | grep -v '^#' | awk '{print $3, $NF}'; }
stamps() { # timestamps of the video packets in the order of display, in ms, which every container can hold
    ffprobe -v error -select_streams v:0 -show_entries packet=pts_time -of csv=p=0 "$1" | tr -d , |
        awk '{printf "%d\n", $1 * 1000 + .5}' | sort -n
}
refuses() { # CODE WORD COMMAND...: that exit code, one line that says WORD, and out/ stays empty
    code=$1 word=$2
    shift 2
    "$@" >said 2>&1
    got=$?
    [ $got -eq "$code" ] && ok || bad "$* -> exit $got, wanted $code: $(cat said)"
    [ "$(wc -l <said)" -eq 1 ] && grep -q -- "$word" said && ok || bad "$*: not one sentence with '$word': $(cat said)"
    [ -z "$(ls -A out)" ] && ok || bad "$* left $(ls -A out)"
    rm -rf out && mkdir out
}

# -- what must come out exactly ----------------------------------------------------------------------------------------
film="-f lavfi -i testsrc2=s=97x65:r=25:d=0.4 -f lavfi -i sine=f=440:d=0.4"
# shellcheck disable=SC2086 # options on purpose
{
    ffmpeg -v error -y $film -vf format=yuv420p -c:v ffv1 -c:a pcm_s16le odd.mkv
    ffmpeg -v error -y $film -vf format=yuv420p10le,scale=96:64 -c:v ffv1 -c:a flac -metadata title=reel ten.mkv
    ffmpeg -v error -y $film -vf format=gray,scale=96:64 -an -c:v ffv1 mute.mkv
    ffmpeg -v error -y $film -vf "format=yuv420p,scale=96:64,setpts='N*(40+13*mod(N\,3))/1000/TB'" -fps_mode vfr -c:v ffv1 -an uneven.mkv
    ffmpeg -v error -y $film -vf format=yuv420p,scale=96:64 -frames:v 1 -an -c:v ffv1 one.mkv
    ffmpeg -v error -y $film -vf format=yuv420p,scale=96:64 -c:v libx264 -bf 2 -c:a aac b.mp4
}
for f in odd ten mute uneven one; do
    if colour --codec ffv1 $f.mkv $f-out.mkv; then ok; else bad "colorize $f.mkv"; fi
    same "luma of $f" "$(luma $f.mkv)" "$(luma $f-out.mkv)"
    same "timestamps of $f" "$(stamps $f.mkv)" "$(stamps $f-out.mkv)"
done
for f in odd ten; do same "sound of $f" "$(sound $f.mkv)" "$(sound $f-out.mkv)"; done
same "title" reel "$(ffprobe -v error -show_entries format_tags=title -of csv=p=0 ten-out.mkv)"
same "depth" yuv420p10le "$(ffprobe -v error -select_streams v -show_entries stream=pix_fmt -of csv=p=0 ten-out.mkv | tr -d ,)"
colour b.mp4 b-out.mp4 && ok || bad "colorize b.mp4"
ffmpeg -v error -y -i b.mp4 -c copy -aspect 16:9 aspect.mp4 # the container's word against the codec's
colour aspect.mp4 aspect-out.mp4 && ok || bad "colorize aspect.mp4"
same "aspect" 16:9 "$(ffprobe -v error -select_streams v -show_entries stream=display_aspect_ratio -of csv=p=0 aspect-out.mp4 | tr -d ,)"
same "timestamps of b" "$(stamps b.mp4)" "$(stamps b-out.mp4)"
same "sound of b" "$(sound b.mp4)" "$(sound b-out.mp4)"
# full range in a file that cannot say so is converted, and said
ffmpeg -v error -y -i one.mkv -vf format=yuvj420p -c:v mjpeg full.avi
colour --codec ffv1 full.avi full-out.avi 2>said && grep -q 'an .mkv file keeps it' said && ok || bad "full range in avi: $(cat said)"
# woven frames alone are made whole: a film whose first half was filmed whole and whose second half in fields
ffmpeg -v error -y -f lavfi -i mandelbrot=s=96x64:r=25 -f lavfi -i testsrc2=s=96x64:r=50 -filter_complex "[0:v]format=yuv420p,trim=end_frame=20[a];[1:v]format=yuv420p,tinterlace=mode=interleave_top,trim=end_frame=20,setfield=prog[b];[a][b]concat" \
    -frames:v 40 -c:v ffv1 half.mkv
colour --codec ffv1 --fields auto half.mkv half-out.mkv || bad "--fields auto"
same "the whole frames" "$(luma half.mkv | head -18)" "$(luma half-out.mkv | head -18)"
same "timestamps of the half woven film" "$(stamps half.mkv)" "$(stamps half-out.mkv)"
[ "$(luma half.mkv | tail -15)" != "$(luma half-out.mkv | tail -15)" ] && ok || bad "woven frames stay woven"
colour --codec ffv1 --fields deinterlace half.mkv half-all.mkv || bad "--fields deinterlace"
same "the woven frames" "$(luma half-all.mkv | tail -15 | head -12)" "$(luma half-out.mkv | tail -15 | head -12)"
# how bright an HDR film is meant to be; samples in floating point
light() { ffprobe -v error -show_entries stream_side_data=max_content,max_average,red_x,max_luminance -of csv=p=0 "$1" | sort; }
if ffmpeg -v error -y -f lavfi -i testsrc2=s=96x64:r=25:d=0.2 -pix_fmt yuv420p10le -c:v libx265 -x265-params "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400" hdr.mkv 2>/dev/null; then
    colour --codec ffv1 hdr.mkv hdr-out.mkv || bad "an HDR film"
    light hdr-out.mkv | grep -q '1000,400' && light hdr-out.mkv | grep -q '17/25' && ok || bad "HDR metadata are lost: $(light hdr-out.mkv)"
fi
ffmpeg -v error -y -f lavfi -i testsrc2=s=96x64:r=25:d=0.04 -pix_fmt grayf32le -frames:v 1 float.pfm
colour float.pfm float.png && same "depth of a floating-point picture" rgb48be "$(ffprobe -v error -show_entries stream=pix_fmt -of csv=p=0 float.png)"
# a sequence of pictures, longer than memory lasts that nobody used before: each frame's brightness, to a rounding
mkdir seq
ffmpeg -v error -y -f lavfi -i testsrc2=s=160x120:r=25:d=1.6 -vf format=gray -c:v ffv1 grey.mkv
colour grey.mkv seq/%05d.png || bad "a sequence of 40"
ffmpeg -v error -i grey.mkv -pix_fmt gray -f rawvideo - >grey.raw
ffmpeg -v error -i seq/%05d.png -pix_fmt gray -f rawvideo - >seq.raw
same "brightness of the sequence" 0 "$(cmp -l grey.raw seq.raw | awk '{a = $2; b = $3; x = int(a / 100) * 64 + int(a % 100 / 10) * 8 + a % 10; y = int(b / 100) * 64 + int(b % 100 / 10) * 8 + b % 10; if (x - y > 3 || y - x > 3) n++} END {print n + 0}')"
# a contact sheet of settings: six columns, as many rows as were wished or there are
"$unfade" preview -q -n 2 --weights "$weights" grey.mkv look.png && same "the contact sheet" "1948,492" "$(ffprobe -v error -show_entries stream=width,height -of csv=p=0 look.png)"
"$unfade" preview grey.mkv out/look.jpg 2>said
[ $? -eq 64 ] && grep -q 'let its name end in .png' said && [ -z "$(ls -A out)" ] && ok || bad "preview to a .jpg: $(cat said)"
# the scenes that are told are those that colouring goes by; corrected ones are gone by too
ffmpeg -v error -y -f lavfi -i testsrc2=s=96x64:r=25:d=0.4 -f lavfi -i mandelbrot=s=96x64:r=25 -filter_complex "[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]concat" -frames:v 20 -c:v ffv1 two.mkv
"$unfade" scenes -q two.mkv >two.scenes && same "scenes" "0 10" "$(awk '{print $4}' two.scenes | tr '\n' ' ' | sed 's/ $//')"
sum() { ffmpeg -v error -i "$1" -vf "${2:-null}" -f md5 -; }
colour --codec ffv1 two.mkv two-a.mkv && colour --codec ffv1 --scenes two.scenes two.mkv two-b.mkv || bad "colorize --scenes"
same "frames by told scenes" "$(sum two-a.mkv)" "$(sum two-b.mkv)"
sed '2s/$/ strength 0/' two.scenes >grey.scenes
colour --codec ffv1 --scenes grey.scenes two.mkv two-c.mkv || bad "strength of a scene"
same "the other scene" "$(sum two-a.mkv trim=end_frame=10)" "$(sum two-c.mkv trim=end_frame=10)"
same "the grey scene" "0" "$(ffmpeg -v error -i two-c.mkv -vf trim=start_frame=10,extractplanes=u -f rawvideo - | od -An -v -tu1 | tr -s ' ' '\n' | grep -c -v -e '^128$' -e '^$')"
refuses 64 "leave the beginning" colour --scenes two.scenes --from 0.2 two.mkv out/o.mkv
printf 'frame 7\nframe 3\n' >bad.scenes
refuses 65 "line 2: frame 3 comes after frame 7" colour --scenes bad.scenes two.mkv out/o.mkv
# transparency stays where the codec can hold it, and codecs go by the names that people know
ffmpeg -v error -y -f lavfi -i testsrc2=s=96x64:r=25:d=0.2 -vf "format=yuva420p,geq=lum='lum(X,Y)':cb=128:cr=128:a='2*X'" -c:v ffv1 glass.mkv
alpha() { ffmpeg -v error -i "$1" -vf alphaextract -f framemd5 - | grep -v '^#' | awk '{print $NF}'; }
colour --codec ffv1 glass.mkv glass-out.mkv || bad "colorize glass.mkv"
same "transparency" "$(alpha glass.mkv)" "$(alpha glass-out.mkv)"
same "luma under it" "$(luma glass.mkv)" "$(luma glass-out.mkv)"
colour --codec prores glass.mkv glass.mov && same "transparency in ProRes" "prores,yuva444p12le" "$(ffprobe -v error -select_streams v -show_entries stream=codec_name,pix_fmt -of csv=p=0 glass.mov | sed 's/a444p10le/a444p12le/')"
# what the film leaves open is settled, and said
"$unfade" colorize --size 64 --weights "$weights" --codec ffv1 two.mkv said.mkv 2>said && grep -q 'does not say which matrix.*smpte170m is taken' said && ok || bad "untagged colours: $(cat said)"
# both beside each other: grey on the left, what it became on the right
colour --codec ffv1 --compare=side two.mkv two-side.mkv || bad "--compare=side"
same "the right side" "$(sum two-a.mkv)" "$(sum two-side.mkv crop=96:64:96:0)"
same "the left side" "$(luma two.mkv)" "$(luma two-side.mkv crop=96:64:0:0,)"
# a part: the frames of that part and no others, from 0 on, with their sound; options reach the encoder
colour --codec ffv1 --from 0.12 --for 0.2s odd.mkv part.mkv || bad "part.mkv"
same "luma of the part" "$(luma odd.mkv | sed -n 4,8p)" "$(luma part.mkv)"
same "timestamps of the part" "0 40 80 120 160" "$(stamps part.mkv | tr '\n' ' ' | sed 's/ $//')"
[ "$(sound part.mkv | wc -l)" -gt 2 ] && ok || bad "the part has no sound"
colour b.mp4 often.mp4 -- -g 2 || bad "often.mp4"
same "key frames" 5 "$(ffprobe -v error -select_streams v -show_entries packet=flags -of csv=p=0 often.mp4 | grep -c K)"
refuses 64 "no option 'nonsense'" colour b.mp4 out/o.mp4 -- -nonsense 1
# fields: woven frames are noticed; out of 30 frames come the 24 that were, in the same time
ffmpeg -v error -y -f lavfi -i mandelbrot=s=96x64:r=24000/1001 -t 4 -vf "telecine,format=yuv420p" -c:v ffv1 woven.mkv
"$unfade" colorize --plan --size 64 --weights "$weights" --fields detelecine woven.mkv planned.mkv 2>/dev/null | grep -q 'fields: it looks telecined' && ok || bad "telecine is not noticed"
colour --fields detelecine woven.mkv whole.mkv || bad "whole.mkv"
same "frames and time after detelecine" "96 4.0" "$(stamps whole.mkv | awk 'END {printf "%d %.1f", NR, ($1 + 42) / 1000}')"
colour --fields deinterlace woven.mkv whole2.mkv || bad "whole2.mkv"
same "frames after deinterlace" "$(stamps woven.mkv)" "$(stamps whole2.mkv)"
refuses 64 "that part" colour --from 10 b.mp4 out/o.mp4
for e in mov avi; do
    colour b.mp4 b.$e && ok || bad "colorize to $e"
    same "frames in $e" 10 "$(ffprobe -v error -count_frames -select_streams v -show_entries stream=nb_read_frames -of csv=p=0 b.$e | tr -d ,)"
done

# -- pictures, sequences, pipes ----------------------------------------------------------------------------------------
ffmpeg -v error -y -i mute.mkv -vf format=gray seq-%03d.png
for e in png jpg tif webp; do
    colour seq-001.png still.$e && ffmpeg -v error -i still.$e -f null - && ok || bad "colorize to $e"
done
mkdir many
colour seq-%03d.png many/%03d.png && ok || bad "colorize a sequence"
same "pictures of the sequence" 10 "$(ls many | wc -l | tr -d ' ')"
ffmpeg -v error -i mute.mkv -vf format=yuv420p -f yuv4mpegpipe - | colour - - >pipe.y4m && ok || bad "colorize a pipe"
ffmpeg -v error -y -i mute.mkv -vf format=yuv420p -f yuv4mpegpipe pipe-in.y4m
same "luma of the pipe" "$(luma pipe-in.y4m)" "$(luma pipe.y4m)"

# -- what must be refused ------------------------------------------------------------------------------------------------
head -c 3000 b.mp4 >cut.mp4
refuses 65 cut.mp4 colour cut.mp4 out/o.mp4
echo "no film" >text.mp4
refuses 65 text.mp4 colour text.mp4 out/o.mp4
ffmpeg -v error -y -i odd.mkv -vn -c:a copy song.mkv
refuses 65 song.mkv colour song.mkv out/o.mkv
refuses 64 nocodec colour --codec nocodec b.mp4 out/o.mp4
refuses 1 missing colour b.mp4 missing/o.mp4
{ head -c 900000 "$weights" && printf XXXX && tail -c +900005 "$weights"; } >flipped.safetensors
refuses 65 flipped.safetensors "$unfade" colorize -q --weights flipped.safetensors b.mp4 out/o.mp4
head -c 900000 "$weights" >cut.safetensors
refuses 65 cut.safetensors "$unfade" colorize -q --weights cut.safetensors b.mp4 out/o.mp4

# a disk that fills up: a limit on the size of files, which needs no rights, fails the same way
ffmpeg -v error -y -f lavfi -i testsrc2=s=640x480:r=25:d=1.2 -vf noise=alls=40:allf=t,format=yuv420p -c:v ffv1 noisy.mkv
full() { (trap '' XFSZ && ulimit -f 2000 && exec "$unfade" colorize -q --size 64 --weights "$weights" --codec ffv1 "$@"); }
refuses 1 o.mkv full noisy.mkv out/o.mkv

# -- interrupted -----------------------------------------------------------------------------------------------------------
ffmpeg -v error -y -stream_loop 40 -i noisy.mkv -c copy long.mkv
"$unfade" colorize -q --weights "$weights" long.mkv out/o.mkv 2>said &
job=$!
n=0
while [ -z "$(ls -A out)" ] && [ $n -lt 100 ]; do sleep .1 && n=$((n + 1)); done
kill -TERM $job
wait $job
got=$?
[ $got -eq 75 ] && ok || bad "interrupted -> exit $got, wanted 75: $(cat said)"
[ -z "$(ls -A out)" ] && ok || bad "interrupted: left $(ls -A out)"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
