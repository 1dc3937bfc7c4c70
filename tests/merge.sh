#!/bin/sh
# Merging through the program, as a person has it: merge.sh UNFADE SOURCE_DIR
set -u
unfade=$1 source=$2 failed=0 passed=0
command -v ffmpeg >/dev/null || exit 77
command -v python3 >/dev/null || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

# ok WHAT A B: are they equal?
ok() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else echo "FAILED: $1: '$2' instead of '$3'"; failed=$((failed + 1)); fi
}
make() { ffmpeg -v error -y "$@"; }
has() { ffmpeg -hide_banner -encoders 2>/dev/null | grep -q " $1 "; }
merge() { "$unfade" merge -q --overwrite "$@" 2>err || { echo "FAILED: merge $*: $(cat err)"; failed=$((failed + 1)); }; }
# refused CODE WORDS ARGUMENTS...: the exit code, the words, and no file
refused() {
    code=$1 words=$2
    shift 2
    rm -rf refused*
    "$unfade" merge -q "$@" >out 2>err
    ok "exit code of merge $*" $? "$code"
    ok "what it says of $*" "$(grep -c -- "$words" err)" 1
    ok "files left by $*" "$(find . -name 'refused*' -o -name '.*part*' -o -name '.unfade*' | wc -l)" 0
}
about() { ffprobe -v error -select_streams a -show_entries "stream=$2" -of csv=p=0 "$1"; }
samples() { ffmpeg -v error -i "$1" -map 0:a -ac 1 -f s16le - | wc -c; }
# from FILE EXPRESSION: of the report's inputs, i[NAME]
from() { python3 -c "
import json, os, sys
r = json.load(open(sys.argv[1]))
i = {os.path.basename(x['path']): x for x in r['inputs']}
print(eval(sys.argv[2]))" "$1" "$2"; }

# Bursts of noise that never come again alike, 24 s.
make -f lavfi -i "aevalsrc='0.5*(random(0)-0.5)*max(0,sin(3*t)+sin(4.3*t)+sin(7.13*t)+sin(11.9*t)+sin(0.31*t*t)-0.9)':s=48000:d=24" -af "lowpass=f=9000" -c:a pcm_s24le a.wav
# Another's are of another seed: aevalsrc's random() begins with the same one each time.
make -f lavfi -i "anoisesrc=seed=7:r=48000:d=24" -af "aeval='0.3*val(0)*max(0,sin(2.2*t)+sin(5.7*t)+sin(8.6*t)+sin(13.1*t)+sin(0.23*t*t)-0.9)'" -c:a pcm_s24le other.wav

# What devices do: each begins `late` seconds into the event.
list="a.wav" want="a.wav:0"
add() { list="$list $1" want="$want $1:$2"; }
make -ss 1.25 -i a.wav -ar 44100 -c:a pcm_s16le rate.wav && add rate.wav 1.25
make -ss 0.5 -i a.wav -af "aeval=-val(0)" inverted.wav && add inverted.wav 0.5
make -ss 2 -i a.wav -filter_complex "[0:a]aformat=channel_layouts=mono,asplit[x][y];[y]volume=0[z];[x][z]amerge=inputs=2,aformat=sample_fmts=s16" dead.wav && add dead.wav 2
make -ss 0.75 -i a.wav -af "dynaudnorm=f=100:g=3,acompressor=ratio=8" agc.wav && add agc.wav 0.75
make -i a.wav -filter_complex "[0:a]asplit[x][y];[x]atrim=0:14,asetpts=N/SR/TB[u];[y]atrim=14.5,asetpts=N/SR/TB[v];[u][v]concat=n=2:v=0:a=1" lost.wav && add lost.wav 0
make -ss 3 -i a.wav -af "asetrate=48005,aresample=48000:resampler=soxr" fast.wav && add fast.wav 3 # 48005 / 48000
has libopus && make -ss 1 -i a.wav -c:a libopus -b:a 24k opus.opus && add opus.opus 1
has libmp3lame && make -ss 0.25 -i a.wav -c:a libmp3lame -b:a 32k mp3.mp3 && add mp3.mp3 0.25
has libopencore_amrnb && make -ss 2.5 -i a.wav -ar 8000 -c:a libopencore_amrnb amr.amr && add amr.amr 2.5
# shellcheck disable=SC2086
merge $list other.wav --align-only --report-json r.json --stems stems -o all.wav
for w in $want; do
    name=${w%:*} late=${w#*:}
    # AAC, MP3 and AMR decoders here delay by whole samples of their own; a sample at 16 kHz is what counts
    ok "$name" "$(from r.json "abs(i['$name']['offset'] - i['a.wav']['offset'] - $late) < 1 / 16000 or i['$name']['offset'] - i['a.wav']['offset']")" True
done
ok "a negative" "$(from r.json "[i[n]['inverted'] != i['a.wav']['inverted'] for n in ('inverted.wav', 'agc.wav')]")" "[True, False]"
ok "a dead channel" "$(from r.json "i['dead.wav']['quality']['dead_channels']")" 1
ok "half a second lost" "$(from r.json "[(abs(s['at'] - i['a.wav']['offset'] - 14) < .6, abs(s['seconds'] + .5) < 1e-4) for s in i['lost.wav']['steps']]")" "[(True, True)]" # in a pause nobody can tell where
ok "a clock that is slow" "$(from r.json "abs(i['fast.wav']['ppm'] - i['a.wav']['ppm'] + 104.156) < 1 or i['fast.wav']['ppm']")" True
ok "clocks of copies" "$(from r.json "max(abs(i[n]['ppm'] - i['a.wav']['ppm']) for n in ('rate.wav', 'agc.wav', 'inverted.wav')) < 1")" True
ok "another event" "$(from r.json "i['other.wav']['used'], 'heard' in i['other.wav']['refused']")" "(False, True)"
ok "it is named" "$(grep -c "'other.wav' is left out" err)" 1
n=$(echo "$list" | wc -w)
ok "a channel for each" "$(about all.wav channels)" "$n"
ok "a stem for each" "$(find stems -name '*.wav' | wc -l)" "$n"
ok "a stem keeps its channels" "$(about stems/dead.wav channels)" 2
ok "aligned copies hold whatever happens between samples" "$(about stems/a.wav codec_name) $(about all.wav codec_name)" "pcm_f32le pcm_f32le"
ok "stems are as long as the result" "$(samples stems/rate.wav)" "$(samples stems/agc.wav)"
# Between them nothing is left but what the codec did: the aligned negative is the original.
level() { ffmpeg -v info -i "$1" -i "$2" -filter_complex "[0:a]atrim=4:20[x];[1:a]atrim=4:20,volume=$3[y];[x][y]amix=inputs=2:normalize=0,volumedetect" -f null - 2>&1 | awk '/mean_volume/ {print int($5)}'; }
ok "stems are in step" "$([ "$(level stems/a.wav stems/inverted.wav -1)" -lt $(($(level stems/a.wav stems/inverted.wav 1) - 40)) ] && echo yes)" yes

# What cannot be done is said.
echo "this is no sound" >text.wav
make -f lavfi -i testsrc=d=0.4 mute.mp4
refused 65 "is heard in the other;" a.wav other.wav -o refused.wav
refused 65 "there is no sound in 'mute.mp4'" a.wav mute.mp4 -o refused.wav
refused 65 "cannot open 'text.wav'" a.wav text.wav -o refused.wav
refused 1 "no such file" a.wav nowhere.wav -o refused.wav
refused 64 "give a name for the result" a.wav agc.wav
refused 64 "is none of the recordings" a.wav agc.wav -o refused.wav --reference rate.wav
refused 64 "alone cannot be aligned" a.wav -o refused.wav --align-only
refused 64 "keep or dry" a.wav agc.wav -o refused.wav --room wet
refused 1 "pass --overwrite" a.wav agc.wav -o all.wav

# A truncated one counts for what it has; one that is given twice counts once.
head -c 1500000 inverted.wav >truncated.wav
cp a.wav copy.wav
merge a.wav truncated.wav copy.wav ./a.wav --align-only --report-json r.json
ok "a truncated file" "$(from r.json "abs(i['truncated.wav']['offset'] - .5) < 1 / 16000")" True
ok "given twice" "$(grep -c "is given twice" err)" 1
ok "a copy" "$(grep -c "'copy.wav' is left out: it holds the same samples as 'a.wav'" err)" 1

# Peaks that were cut off are made anew, but for those who asked for copies. Vowels of a wandering pitch, with bursts of hiss, 24 s.
vowels="max(0,sin(2.2*t)+sin(5.7*t)+sin(8.6*t)-1)*(sin(900*t+40*sin(2*t))+0.8*sin(1800*t+80*sin(2*t))+0.6*sin(2700*t+120*sin(2*t))+0.4*sin(4500*t+200*sin(2*t)))"
hiss="max(0,sin(3*t)+sin(4.3*t)+sin(7.13*t)+sin(11.9*t)+sin(0.31*t*t)-0.9)*(random(0)-0.5)"
make -f lavfi -i "aevalsrc='0.08*$vowels+0.06*$hiss':s=16000:d=24" -c:a pcm_f32le vowels.wav
make -i vowels.wav -af "volume=6" -c:a pcm_s16le loud.wav
merge vowels.wav loud.wav -o mended.wav --music --stems mended
ok "the loud one is named" "$(grep -c "'loud.wav' is too loud.*made anew" err)" 1
merge vowels.wav loud.wav --align-only --stems copies
ok "of copies nothing is said" "$(grep -c "made anew" err)" 0
sdr() { "$unfade" score vowels.wav "$1" --json -q | python3 -c "import json, sys; print(json.loads(sys.stdin.readline())['si_sdr'])"; }
ok "cut peaks" "$(python3 -c "print($(sdr mended/loud.wav) > $(sdr copies/loud.wav) + 3 or '$(sdr mended/loud.wav) $(sdr copies/loud.wav)')")" True
# The page: of recordings with names that a browser must not take for anything else; one of them hears nothing for three seconds.
mkdir page && hostile='page/a<b>&"c.wav'
make -i a.wav -f lavfi -i "anoisesrc=d=24:r=48000:a=0.004:seed=3" -filter_complex "[0:a][1:a]amix=inputs=2:normalize=0" "$hostile"
make -ss 1 -i "$hostile" -f lavfi -i "anoisesrc=d=23:r=48000:a=0.002:seed=4" -filter_complex "[0:a][1:a]amix=inputs=2:normalize=0,volume=0:enable='between(t,9,12)'" page/hole.wav
# page_of FILE EXPRESSION: of the page p, and the report r with its inputs i
page_of() { python3 -c "
import json, os, re, sys
p = open(sys.argv[1]).read()
r = json.load(open(sys.argv[1] + '.json'))
i = {os.path.basename(x['path']): x for x in r['inputs']}
w = [x['weights'] for x in r['inputs'] if x['used'] and 'weights' in x]
print(eval(sys.argv[2]))" "$1" "$2"; }
told() {
    kind=$1
    shift
    merge "$hostile" page/hole.wav other.wav --report p.html --report-json p.html.json "$@"
    ok "names on the page ($kind)" "$(page_of p.html "'a&lt;b>&amp;&quot;c.wav' in p, 'a<b>' in p, 'hole.wav' in p, 'left out: ' in p")" "(True, False, True, True)"
    ok "nothing from elsewhere ($kind)" "$(page_of p.html "set(re.findall('(?:src|srcset|href)=.(.{5})', p)), re.findall('https?:..|url[(]|@import', p)")" "({'data:'}, [])"
    ok "players and pictures ($kind)" "$(page_of p.html "p.count('<audio '), p.count('alt=\"spectrogram'), p.count('class=\"chart\"'), p.endswith('</html>\n')")" "(2, 2, 5, True)"
    ok "what was said is told ($kind)" "$(page_of p.html "'<li class=\"bad\">warning: \'other.wav\' is left out' in p, '<li>unfade merge' in p")" "(True, True)"
    ok "shares ($kind)" "$(page_of p.html "len(w) == 2 and {len(x) for x in w} == {24} and max(abs(a + b - 1) for a, b in zip(*w)) < .01 and min(map(min, w)) >= 0 or w")" True
    ok "shares while one is away ($kind)" "$(page_of p.html "[i['hole.wav']['weights'][s] for s in (10, 11, 12)], max(i['hole.wav']['weights'][13:]) > .02")" "([0.0, 0.0, 0.0], True)"
    ok "when it was away ($kind)" "$(page_of p.html "[[round(x, 1) for x in d] for d in i['hole.wav']['drops']], '1 dropout, 3.0' in p")" "([[10.0, 13.0]], True)"
    ok "the best one ($kind)" "$(page_of p.html "r['reference'] in ('page/hole.wav', '$hostile')")" True
}
told mixed -o mix.wav --music
merge a.wav agc.wav --align-only --report aligned.html
ok "a page alone" "$(grep -c '</html>' aligned.html), $(grep -c '<audio' aligned.html)" "1, 0"
refused 1 "cannot write 'nowhere/refused.html'" a.wav agc.wav -o refused.wav --report nowhere/refused.html
refused 1 "pass --overwrite" a.wav agc.wav -o refused.wav --report p.html
refused 64 "give it a name of its own" a.wav agc.wav -o refused.wav --report refused.wav
cp a.wav guarded.wav
refused 64 "give it a name of its own" guarded.wav agc.wav -o refused.wav --report ./guarded.wav --overwrite
refused 64 "would be replaced" guarded.wav agc.wav -o refused.wav --report-json guarded.wav --overwrite
ok "a recording is no page" "$(cmp a.wav guarded.wav && echo same)" same

# Stopped when it has begun: nothing is left.
make -stream_loop 20 -i a.wav long.wav
"$unfade" merge -q long.wav a.wav -o refused.wav 2>err &
pid=$!
for _ in $(seq 200); do
    [ -n "$(find . -name '.refused*')" ] && break
    sleep 0.1
done
kill -TERM $pid
wait $pid
ok "stopped" $? 75
ok "files left when stopped" "$(find . -name 'refused*' -o -name '.*part*' -o -name '.unfade*' | wc -l)" 0

# The whole way needs the network.
if [ -f "$source/models/weights/speech.safetensors" ]; then
    merge a.wav rate.wav -o merged.flac --music --loudness -20
    ok "rate of the mix" "$(about merged.flac sample_rate,channels)" 48000,1
    ok "loudness" "$(ffmpeg -v info -i merged.flac -af ebur128=framelog=verbose -f null - 2>&1 | awk '/I:/ {d = $2 + 20} END {print (d < .6 && d > -.6) ? "right" : d}')" right
    merge a.wav rate.wav -o voice.wav --max-atten 6 --room keep
    ok "length of the mix" "$(samples voice.wav)" "$(samples a.wav)"
    make -f lavfi -i "testsrc2=s=64x48:r=25:d=20" -i agc.wav -c:v mpeg4 -c:a aac -shortest film.mp4
    merge a.wav -o into.mp4 --into film.mp4 --music
    sum() { ffmpeg -v error -i "$1" -map 0:v -c copy -f md5 -; }
    ok "pictures of the film" "$(sum into.mp4)" "$(sum film.mp4)"
    ok "length of the film's sound" "$(python3 -c "print(abs($(about into.mp4 duration) - $(about film.mp4 duration)) < .05)")" True
    told beam -o beam.wav
    merge a.wav -o one.wav --report one.html
    "$unfade" clean -q a.wav clean.wav
    ok "and has a page" "$(grep -c '<audio' one.html), $(grep -c 'How the clocks ran' one.html)" "2, 0"
    ok "one recording is cleaned" "$(ffmpeg -v error -i one.wav -f md5 -)" "$(ffmpeg -v error -i clean.wav -f md5 -)"

    # The benchmark of whole merges: two recorders of one seed, as files that are gone afterwards.
    cat >bench.yaml <<'END'
model: speech
out: none.safetensors
train: [{path: a.wav}]
valid: [{path: a.wav}]
valid_noises: [{path: other.wav}]
stages: [{size: 32768, batch: 1, steps: 1, rate: 0.001}]
losses: {spectrum: 1}
END
    before=$(find /tmp -maxdepth 1 -name 'unfade-whole-*' | wc -l)
    "$unfade" array bench.yaml --bench --whole -n 2 --scenes 1 --seconds 24 --offset 2 --snr-from 20 --snr-to 20 --habits gain,rates --json >bench 2>err || cat err
    ok "recordings that the benchmark's merge used" "$(grep '"scene"' bench | python3 -c "
import json, sys
s = [json.loads(l) for l in sys.stdin]
print(len(s), s[0]['used'], s[0]['merged'] > s[0]['alone'] - 3)")" "1 2 True"
    ok "what the benchmark leaves" "$(find /tmp -maxdepth 1 -name 'unfade-whole-*' | wc -l)" "$before"
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
