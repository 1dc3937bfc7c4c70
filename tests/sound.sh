#!/bin/sh
# Sound through the program, as a person has it: sound.sh UNFADE SOURCE_DIR
set -u
unfade=$1 source=$2 failed=0 passed=0
weights=$source/models/weights/speech.safetensors
[ -f "$weights" ] || { echo "no speech weights in this clone"; exit 77; }
command -v ffmpeg >/dev/null || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

# ok WHAT A B: are they equal?
ok() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else echo "FAILED: $1: '$2' instead of '$3'"; failed=$((failed + 1)); fi
}
make() { ffmpeg -v error -y "$@"; }
clean() { "$unfade" clean -q --overwrite "$@" 2>err || { echo "FAILED: clean $*: $(cat err)"; failed=$((failed + 1)); }; }
# refused CODE WORDS ARGUMENTS...: the exit code, one line, the words in it, and no file
refused() {
    code=$1 words=$2
    shift 2
    rm -f refused.*
    "$unfade" clean -q "$@" >out 2>err
    got=$?
    ok "exit code of clean $*" "$got" "$code"
    ok "what it says of $*" "$(grep -c -- "$words" err)" 1
    ok "files left by $*" "$(find . -name 'refused*' -o -name '.*part*' | wc -l)" 0
}
about() { ffprobe -v error -select_streams a -show_entries "stream=$2" -of csv=p=0 "$1"; }
samples() { ffmpeg -v error -i "$1" -map 0:a -f s16le - | wc -c; }
sum() { ffmpeg -v error -i "$1" -map "0:$2" -c copy -f md5 -; }

voice="aevalsrc='0.2*sin(2*PI*(130+20*sin(3*t))*t)*max(sin(5*t),0)+0.1*sin(2*PI*(410+60*sin(2*t))*t)*max(sin(5*t),0)+0.02*(random(0)-0.5)'"

# Rates, channels, depths and lengths stay.
for rate in 7350 16000 44100 192000; do
    make -f lavfi -i "$voice:s=$rate:d=3.1" a.wav
    clean a.wav b.wav
    ok "samples at $rate" "$(samples b.wav)" "$(samples a.wav)"
    ok "rate $rate" "$(about b.wav sample_rate)" $rate
done
make -f lavfi -i "$voice:s=44100:d=2" -filter_complex "[0:a]asplit=8[a][b][c][d][e][f][g][h];[a][b][c][d][e][f][g][h]amerge=inputs=8" eight.wav
clean eight.wav b.wav
ok "eight channels" "$(about b.wav channels)" 8
make -f lavfi -i "$voice:s=48000:d=2" -c:a pcm_s24le deep.wav
clean deep.wav b.wav
ok "24 bit" "$(about b.wav codec_name)" pcm_s24le
clean deep.wav b.flac
ok "24 bit in FLAC" "$(about b.flac bits_per_raw_sample)" 24
make -f lavfi -i "$voice:s=16000:d=2" -c:a pcm_f32le float.wav
clean float.wav b.wav
ok "float" "$(about b.wav codec_name)" pcm_f32le
make -i float.wav -metadata description=Interview -metadata originator=Me -metadata time_reference=480000 -write_bext 1 bwf.wav
clean bwf.wav b.wav
ok "broadcast chunk" "$(ffprobe -v error -show_entries format_tags b.wav | grep -E 'time_reference|comment|originator' | sort)" "$(ffprobe -v error -show_entries format_tags bwf.wav | grep -E 'time_reference|comment|originator' | sort)"
for n in 0 1 300; do
    make -i float.wav -af "atrim=end_sample=$n" short.wav
    clean short.wav b.wav
    ok "$n samples" "$(samples b.wav)" $((2 * n))
done
head -c 30000 deep.wav >truncated.wav
clean truncated.wav b.wav
ok "a truncated file" "$(samples b.wav)" "$(samples truncated.wav)"
make -f lavfi -i "anullsrc=r=48000:cl=stereo:d=2" -c:a pcm_f32le silence.wav
clean silence.wav b.wav
ok "silence" "$(ffmpeg -v error -i b.wav -f f32le - | tr -d '\0' | wc -c)" 0

make -i silence.wav -c:a pcm_s16le silence16.wav
clean silence16.wav b.wav
ok "silence in 16 bit" "$(ffmpeg -v error -i b.wav -f s16le - | tr -d '\0' | wc -c)" 0

# A cue point goes along: one at sample 1000, with its name, behind the sound.
word() { awk -v n="$1" 'BEGIN {for (i = 0; i < 4; i++) {printf "\\%03o", n % 256; n = int(n / 256)}}' | xargs -0 printf; }
{
    printf RIFF && word $(($(wc -c <deep.wav) - 8 + 36 + 24)) && tail -c +9 deep.wav
    printf 'cue ' && word 28 && word 1 && word 1 && word 1000 && printf data && word 0 && word 0 && word 1000
    printf LIST && word 16 && printf adtllabl && word 4 && word 1
} >cue.wav
clean cue.wav b.wav
ok "cue point" "$(tail -c 60 b.wav | cksum)" "$(tail -c 60 cue.wav | cksum)"
ok "samples with a cue point" "$(samples b.wav)" "$(samples deep.wav)"

# Loudness as asked for, and peaks that stay under the top.
make -f lavfi -i "$voice:s=48000:d=8" -c:a pcm_f32le -ac 2 loud.wav
for lufs in -16 -30; do
    clean --wet 0.5 --loudness $lufs loud.wav b.wav
    ok "loudness $lufs" "$(ffmpeg -v info -i b.wav -af ebur128=framelog=verbose -f null - 2>&1 | awk -v want=$lufs '/I:/ {d = $2 - want} END {print (d < .6 && d > -.6) ? "right" : d}')" right
    ok "samples with --loudness $lufs" "$(samples b.wav)" "$(samples loud.wav)"
done
ok "peaks" "$(ffmpeg -v info -i b.wav -af volumedetect -f null - 2>&1 | awk '/max_volume/ {print ($5 < -0.9) ? "under" : $5}')" under

# A click train, nearly dry: each click at its sample.
make -f lavfi -i "aevalsrc='0.5*eq(mod(n,1000),0)':s=48000:d=12" -c:a pcm_f32le clicks.wav
clean --wet 0.001 clicks.wav b.wav
for f in clicks b; do ffmpeg -v error -i $f.wav -af "volume=2,aformat=sample_fmts=u8" -f u8 $f.raw; done
ok "clicks" "$(cmp -l clicks.raw b.raw | awk '{d = $2 - $3; if (d > 2 || d < -2) n++} END {print n + 0}')" 0

# Hum goes, clicks go, and nothing moves.
make -f lavfi -i "aevalsrc='0.1*sin(2*PI*50*t)+0.05*sin(2*PI*150*t)|0.1*sin(2*PI*50*t)':s=44100:d=6" -c:a pcm_f32le hum.wav
clean --wet 0.001 --hum 50 hum.wav b.wav
level() { ffmpeg -v info -i "$1" -af "atrim=start=2,$2,volumedetect" -f null - 2>&1 | awk '/mean_volume/ {print int($5)}'; }
ok "hum" "$([ "$(level b.wav anull)" -lt $(($(level hum.wav anull) - 30)) ] && echo gone)" gone
ok "samples with --hum" "$(samples b.wav)" "$(samples hum.wav)"
make -f lavfi -i "aevalsrc='0.2*sin(2*PI*300*t)+0.6*eq(mod(n,9001),4000)':s=44100:d=4" -c:a pcm_f32le crackle.wav
clean --wet 0.001 --clicks --clips crackle.wav b.wav
ok "samples with --clicks" "$(samples b.wav)" "$(samples crackle.wav)"
make -f lavfi -i "aevalsrc='0.2*sin(2*PI*300*t)':s=44100:d=4" -c:a pcm_f32le tone.wav
ok "clicks" "$("$unfade" score tone.wav b.wav | awk 'NR == 2 {print ($1 > 30) ? "gone" : $1}')" gone

# Peaks that were cut off, of 16 bit, whose lowest sample lies farther out than the highest: what a float file can hold, others say that they cannot.
make -f lavfi -i "aevalsrc='0.25*(sin(900*t+40*sin(2*t))+0.8*sin(1800*t+80*sin(2*t))+0.6*sin(2700*t+120*sin(2*t)))*(0.6+0.4*sin(3*t))':s=16000:d=6" -c:a pcm_f32le free.wav
make -i free.wav -af volume=2.5 -c:a pcm_s16le cut.wav
make -i cut.wav -c:a pcm_f32le float.wav
clean --wet 0.001 --clips float.wav b.wav
sdr() { "$unfade" score free.wav "$1" | awk 'NR == 2 {print $1}'; }
ok "clipped peaks" "$(awk "BEGIN {print ($(sdr b.wav) > $(sdr cut.wav) + 3) ? \"anew\" : \"$(sdr cut.wav) $(sdr b.wav)\"}")" anew
"$unfade" clean -q --overwrite --wet 0.001 --clips cut.wav c.wav 2>err
ok "no room for them" "$(grep -c "samples were cut off; --loudness" err)" 1
# The same made quieter by 8 dB after that, as the left channel of two; the right one was never cut off, and is as loud.
make -i cut.wav -i free.wav -filter_complex "[0]volume=0.4[a];[a][1]join=channel_layout=stereo" -c:a pcm_f32le two.wav
clean --wet 0.001 --clips two.wav b.wav
for side in 0 1; do make -i b.wav -af "pan=mono|c0=c$side" -c:a pcm_f32le side$side.wav; done
ok "clipped peaks, quieter" "$(awk "BEGIN {print ($(sdr side0.wav) > $(sdr cut.wav) + 3) ? \"anew\" : \"$(sdr cut.wav) $(sdr side0.wav)\"}")" anew
ok "the other channel" "$(awk "BEGIN {print ($(sdr side1.wav) > 60) ? \"left alone\" : $(sdr side1.wav)}")" "left alone"

# Highs where there are none, at a rate that holds them; a recording that has them stays to the bit.
make -f lavfi -i "$voice:s=8000:d=3" phone.wav
clean --wet 0.001 --highs phone.wav b.wav
ok "rate with --highs" "$(about b.wav sample_rate)" 48000
ok "samples with --highs" "$(samples b.wav)" $((6 * $(samples phone.wav)))
upper() { ffmpeg -v info -i "$1" -af "aresample=48000,highpass=f=6000:p=2,highpass=f=6000:p=2,volumedetect" -f null - 2>&1 | awk '/mean_volume/ {print int($5)}'; }
ok "highs" "$([ "$(upper b.wav)" -gt $(($(upper phone.wav) + 3)) ] && echo there)" there
make -f lavfi -i "anoisesrc=r=44100:d=3:c=pink:a=0.2" -c:a pcm_f32le full.wav
clean --wet 0.5 full.wav b.wav
clean --wet 0.5 --highs full.wav c.wav
ok "a recording with highs" "$(cksum <c.wav)" "$(cksum <b.wav)"

# A film: its pictures to the bit, its sound in step.
film=$source/samples/clip/album.mp4
clean "$film" b.mp4
ok "pictures" "$(sum b.mp4 v)" "$(sum "$film" v)"
for kind in "mkv pcm_s16le" "mkv libopus" "mkv aac" "mp4 aac"; do
    set -- $kind
    make -f lavfi -i "testsrc2=s=64x48:r=25:d=12" -f lavfi -i "aevalsrc='0.5*eq(mod(n,48000),0)':s=48000:d=12" -c:v mpeg4 -c:a "$2" -metadata:s:a language=deu "sync.$1"
    clean --wet 0.001 "sync.$1" "b.$1"
    for f in sync b; do # the first picture's time, and the click's in the sound, both by their own timestamps
        v=$(ffprobe -v error -select_streams v -show_entries frame=pts_time -read_intervals %+0.01 -of csv=p=0 "$f.$1" | head -1)
        a=$(ffmpeg -v error -copyts -i "$f.$1" -map 0:a -af aresample=async=1:first_pts=0 -t 1.6 -ac 1 -f s16le - | od -An -v -td2 -w2 |
            awk 'NR > 24000 && $1 > most {most = $1; at = NR} END {print (at - 1) / 48000}')
        awk "BEGIN {printf \"%.6f\\n\", $a - $v}" >"$f.step"
    done
    # to the sample; Matroska counts in milliseconds
    ok "step of $kind" "$(awk -v k="$1" '{x[NR] = $1} END {d = x[1] - x[2]; most = k == "mkv" ? 0.0011 : 0.00003; print (d < most && d > -most) ? "equal" : d}' b.step sync.step)" equal
    ok "language of $kind" "$(ffprobe -v error -select_streams a -show_entries stream_tags=language -of csv=p=0 "b.$1")" deu
done

# What cannot be done is said.
echo "this is no sound" >text.wav
make -f lavfi -i testsrc=d=0.4 mute.mp4
refused 65 "there is no sound in 'mute.mp4'" mute.mp4 refused.mp4
refused 65 "cannot open 'text.wav'" text.wav refused.wav
refused 1 "no such file" nowhere.wav refused.wav
refused 1 "no ending" float.wav refused.xyz
refused 1 "pass --overwrite" float.wav b.wav
refused 65 "holds weights for model" --weights "$source/models/weights/color.safetensors" float.wav refused.wav
refused 64 "number from" --wet 3 float.wav refused.wav

# Measures, and mixtures that are always the same.
ok "a recording and itself" "$("$unfade" score deep.wav deep.wav | awk 'NR == 2 {print ($1 > 100 && $2 > 0.999 && $3 > 0.999 && $4 < 0.001) ? "good" : $0}')" good
make -i deep.wav -af adelay=10 -c:a pcm_s24le late.wav
ok "a late recording" "$("$unfade" score deep.wav late.wav 2>&1 | grep -c "comes 10.00 ms later")" 1
mkdir -p voices && cp float.wav deep.wav voices
printf 'model: speech\nout: w\ntrain: [{path: voices}]\nvalid: [{path: voices}]\nstages: [{size: 4096, batch: 1, steps: 1, rate: 0.001}]\nlosses: {snr: 1}\n' >r.yaml
"$unfade" mix -q r.yaml -n 2 --seconds 1 --out m1 && "$unfade" mix -q r.yaml -n 2 --seconds 1 --out m2
ok "mixtures" "$(cat m1/*/*.wav | cksum)" "$(cat m2/*/*.wav | cksum)"
ok "how many" "$(find m1 -name '*.wav' | wc -l)" 6
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
