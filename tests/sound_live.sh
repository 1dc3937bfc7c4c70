#!/bin/sh
# Sound through pipes while it is being made: sound_live.sh UNFADE. The network has learnt next to nothing, which does not matter here.
set -u
unfade=$1 failed=0 passed=0
command -v ffmpeg >/dev/null || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

# ok WHAT A B: are they equal?
ok() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else echo "FAILED: $1: '$2' instead of '$3'"; failed=$((failed + 1)); fi
}
make() { ffmpeg -v error -y "$@"; }
live() { "$unfade" clean --live "$@" 2>err || { echo "FAILED: clean --live $*: $(cat err)"; failed=$((failed + 1)); }; }
samples() { ffmpeg -v error -i "$1" -map 0:a -f s16le - | wc -c; }
# apart MOST A B: do raw 16-bit files differ by MOST steps at most, and have they the same length?
apart() {
    for f in "$2" "$3"; do od -An -v -td2 -w2 "$f" >"$f.txt"; done
    paste "$2.txt" "$3.txt" | awk -v most="$1" '{d = $1 - $2; if (NF != 2 || d > most || d < -most) n++} END {print (NR < 1000) ? "too short" : n + 0}'
}

# refused CODE WORDS ARGUMENTS... <what comes: the exit code, one line with the words, and no byte of output
refused() {
    code=$1 words=$2
    shift 2
    "$unfade" clean -q "$@" >out 2>err
    ok "exit code of clean $*" $? "$code"
    ok "what it says of $*" "$(grep -c -- "$words" err) of $(grep -c '^unfade' err)" "1 of 1"
    ok "what it writes of $*" "$(wc -c <out)" 0
}

voice="aevalsrc='0.2*sin(2*PI*(130+20*sin(3*t))*t)*max(sin(5*t),0)+0.02*(random(0)-0.5)"
make -f lavfi -i "$voice':s=16000:d=2" voice.wav

UNFADE_WEIGHTS="$dir/none" && export UNFADE_WEIGHTS && mkdir none
refused 1 "speech-live.safetensors" --live <voice.wav
unset UNFADE_WEIGHTS
printf 'model: speech-live\nout: speech-live.safetensors\ntrain: [{path: voice.wav}]\nvalid: [{path: voice.wav}]\nstages: [{size: 4096, batch: 1, steps: 1, rate: 0.001}]\nlosses: {snr: 1}\n' >r.yaml
"$unfade" train -q r.yaml --out w || { echo "FAILED: no weights"; exit 1; }
UNFADE_WEIGHTS="$dir/w" && export UNFADE_WEIGHTS

# Through a pipe it is what it is of a file, but for dither (two steps at most on either side); no sample more or less.
for kind in "8000 1" "16000 2" "44100 1" "48000 2"; do
    set -- $kind
    second=
    [ "$2" = 2 ] && second="|0.1*sin(2*PI*410*t)"
    make -f lavfi -i "$voice$second':s=$1:d=2.3" a.wav
    live --overwrite -q a.wav file.wav
    live - - <a.wav >pipe.wav
    ok "latency at $kind" "$(grep -c "^live: $1 Hz, $2 channel.*latency [0-9.]* ms$" err)" 1
    ok "header at $kind" "$(ffprobe -v error -show_entries stream=codec_name,sample_rate,channels -of csv=p=0 pipe.wav)" "pcm_s16le,$1,$2"
    ok "samples at $kind" "$(samples pipe.wav)" "$(samples a.wav)"
    for f in a file pipe; do make -i $f.wav -f s16le $f.raw; done
    ok "pipe against file at $kind" "$(apart 4 pipe.raw file.raw)" 0
    live --format s16le --rate "$1" --channels "$2" <a.raw >raw.raw
    ok "raw against file at $kind" "$(apart 4 raw.raw file.raw)" 0
    make -i a.wav -f f32le a.f32
    live --format f32le --rate "$1" --channels "$2" <a.f32 >b.f32
    make -f f32le -ar "$1" -ac "$2" -i b.f32 -f s16le float.raw
    ok "float against file at $kind" "$(apart 4 float.raw file.raw)" 0
    # a writer that dawdles and cuts samples in two, and a reader that is late
    (head -c 20001 a.raw && sleep 0.3 && tail -c +20002 a.raw) | live --format s16le --rate "$1" --channels "$2" | (sleep 0.5 && cat) >slow.raw
    ok "a slow writer and reader at $kind" "$(apart 4 slow.raw file.raw)" 0
done
make -i a.wav -c:a pcm_s24le deep.wav
live <deep.wav >b.wav
ok "24 bit" "$(ffprobe -v error -show_entries stream=codec_name -of csv=p=0 b.wav)" pcm_s24le

# Headers that do not know the length, and tags behind the sound.
make -i voice.wav -f wav - | cat >unknown.wav
live <unknown.wav >b.wav
ok "unknown length" "$(samples b.wav)" "$(samples voice.wav)"
{ cat voice.wav && printf 'LIST\004\000\000\000INFO'; } >tail.wav
live <tail.wav >b.wav
ok "tags behind the sound" "$(samples b.wav)" "$(samples voice.wav)"
head -c 30001 voice.wav | live >b.wav
ok "a cut WAV" "$(samples b.wav)" $(((30001 - $(wc -c <voice.wav) + $(samples voice.wav)) / 2 * 2))

# Clicks, nearly dry: each at its sample. Silence is silence.
make -f lavfi -i "aevalsrc='0.5*eq(mod(n,1000),0)':s=48000:d=2" clicks.wav
make -i clicks.wav -f s16le clicks.raw
live --wet 0.001 --format s16le --rate 48000 <clicks.raw >b.raw
ok "clicks" "$(apart 500 b.raw clicks.raw)" 0
head -c 64000 /dev/zero | live --format s16le --rate 16000 >b.raw
ok "silence" "$(tr -d '\0' <b.raw | wc -c) $(wc -c <b.raw)" "0 64000"
live --format s16le --rate 16000 </dev/null >b.raw
ok "no sound at all" "$(wc -c <b.raw)" 0

# At most a tenth of the noise away: 20 dB.
make -f lavfi -i "anoisesrc=r=16000:d=2:a=0.1" -f s16le noise.raw
live --max-atten 1 --format s16le --rate 16000 <noise.raw >b.raw
level() { ffmpeg -v info -f s16le -ar 16000 -i "$1" -af volumedetect -f null - 2>&1 | awk '/mean_volume/ {print $5}'; }
ok "--max-atten 1" "$(echo "$(level b.raw) $(level noise.raw)" | awk '{print ($1 - $2 > -1.3) ? "kept" : $1 - $2}')" kept

# What has come leaves at once, while nothing more comes; a signal ends it with all that was given.
mkfifo in away
"$unfade" clean --live -q --format s16le --rate 16000 <in >away 2>err & pid=$!
exec 3>in 4<away
dd if=noise.raw bs=3200 count=1 2>/dev/null >&3
got=$(timeout 60 dd bs=1 count=2048 <&4 2>/dev/null | wc -c) # of 3200 bytes, all but the latency
ok "what leaves before the next comes" "$got" 2048
kill -INT $pid
rest=$(timeout 60 cat <&4 | wc -c)
wait $pid
ok "exit code after Ctrl-C" $? 0
ok "all that was given has left" $((got + rest)) 3200
exec 3>&- 4<&-

# Nobody reads any more; nobody reads, and it is told to stop.
{ cat noise.raw noise.raw noise.raw noise.raw | "$unfade" clean --live --format s16le --rate 16000 2>err; echo $? >code; } | head -c 1000 >/dev/null
ok "a closed pipe" "$(cat code) $(grep -c 'nobody reads' err)" "0 1"
"$unfade" clean --live --format s16le --rate 16000 <in >away 2>err & pid=$!
exec 3>in 4<away
for i in 1 2 3 4; do cat noise.raw; done >&3 2>/dev/null & feeder=$!
n=0
until awk '/^wchar/ {exit !($2 >= 61900)}' /proc/$pid/io || [ $n -ge 300 ]; do sleep 0.2 && n=$((n + 1)); done # a pipe of 64 KB takes no more
kill -TERM $pid
wait $pid
ok "a reader that has stopped" "$? $(grep -c 'nobody took' err)" "75 1"
exec 3>&- 4<&-
wait $feeder

refused 65 "does not begin as a WAV" --live <noise.raw
refused 65 "does not begin as a WAV" --live </dev/null
refused 64 "add --rate" --live --format s16le <noise.raw
refused 64 "add --live" - - <voice.wav
refused 64 "give - for both" --live - b.wav <voice.wav
refused 64 "leave --loudness" --live --loudness -16 <voice.wav
refused 65 "has another size\|get the file again\|not safetensors" --live --weights voice.wav <voice.wav
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
