#!/bin/sh
# The program as a person meets it: cli.sh UNFADE SOURCE_DIR
set -u
unfade=$1 source=$2 failed=0 passed=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# expect CODE WORD COMMAND...: the exit code, WORD somewhere in what it says, and at most one line on stderr
expect() {
    code=$1 word=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ $got -ne "$code" ] || ! cat "$dir/out" "$dir/err" | grep -q -- "$word"; then
        echo "FAILED: $* -> exit $got, wanted $code and '$word'; it said:"
        head -5 "$dir/out" "$dir/err"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}
absent() {
    if [ -e "$1" ] || ls "$dir"/.*part* "$dir"/.*plan* >/dev/null 2>&1; then
        echo "FAILED: $1 or a part of it was left behind"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

expect 64 Commands "$unfade"
expect 0 Commands "$unfade" --help
expect 0 unfade "$unfade" --version
expect 64 "did you mean 'colorize'" "$unfade" colorise
for c in $("$unfade" --list-commands); do
    expect 0 Usage "$unfade" "$c" --help
    expect 0 "# SYNOPSIS" "$unfade" --man "$c"
    expect 64 "unrecognized option" "$unfade" "$c" --nonsense
done
expect 64 "number from 1 to 51" "$unfade" colorize --crf 99 a.mp4 b.mp4
expect 64 "no CUDA" "$unfade" colorize --device cuda a.mp4 b.mp4
expect 0 color "$unfade" models
expect 0 "second of sound" "$unfade" models
expect 0 '"event":"model"' "$unfade" models --json
expect 64 "lerning" sh -c "echo 'lerning: 1' >'$dir/r.yaml'; '$unfade' train '$dir/r.yaml' --out '$dir/run'"

clip=$source/samples/clip/album.mp4
expect 64 "with --reference" "$unfade" tune "$clip"
expect 0 "frame     186      62 frames" "$unfade" scenes -q "$clip"
if [ "$(wc -l <"$dir/out")" -eq 4 ]; then passed=$((passed + 1)); else echo "FAILED: not 4 scenes"; failed=$((failed + 1)); fi
expect 0 h264 "$unfade" info "$clip"
expect 0 '"kind":"audio"' "$unfade" info --json "$clip"
echo "this is no film" >"$dir/text.mp4"
echo "this is no network" >"$dir/text.safetensors"
expect 65 text.mp4 "$unfade" info "$dir/text.mp4"
expect 65 "header length" "$unfade" info "$dir/text.safetensors"

weights=$source/models/weights/color.safetensors
if [ ! -f "$weights" ]; then
    echo "no color weights in this clone: colouring is not tested"
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ] && exit 77
    exit 1
fi
expect 0 "all checks passed" "$unfade" info "$weights"
expect 65 text.mp4 "$unfade" colorize "$dir/text.mp4" "$dir/o1.mp4"
absent "$dir/o1.mp4"
expect 65 "damaged\|sha256" sh -c "cp '$weights' '$dir/w.safetensors'; printf XXXX | dd of='$dir/w.safetensors' bs=1 seek=900000 conv=notrunc 2>/dev/null; '$unfade' colorize --weights '$dir/w.safetensors' '$clip' '$dir/o2.mp4'"
absent "$dir/o2.mp4"
expect 1 "needs 2.. MB; raise --memory" "$unfade" colorize --memory 150M "$clip" "$dir/o3.mp4" # 207 MB were measured
absent "$dir/o3.mp4"
ffmpeg -v error -y -i "$clip" -t 0.4 -c:v ffv1 -c:a copy "$dir/short.mkv"
expect 0 "10 frames" "$unfade" colorize --size 64 --codec ffv1 "$dir/short.mkv" "$dir/colour.mkv"
expect 1 "overwrite" "$unfade" colorize "$dir/short.mkv" "$dir/colour.mkv"
expect 0 "seconds_left\|\"event\":\"plan\"" "$unfade" colorize --plan --json --size 64 "$clip" "$dir/planned.mkv"
absent "$dir/planned.mkv"
expect 64 "a second or more" "$unfade" colorize --plan --size 64 "$dir/short.mkv" "$dir/planned.mkv"
absent "$dir/planned.mkv"
expect 0 '"event":"done"' "$unfade" colorize --json --overwrite --size 64 "$dir/short.mkv" "$dir/colour.mp4"
for what in "-map 0:a -c copy" "-map 0:v -vf extractplanes=y"; do
    # shellcheck disable=SC2086 # options on purpose
    a=$(ffmpeg -v error -i "$dir/short.mkv" $what -f framemd5 - | grep -v '^#' | awk '{print $2, $NF}')
    b=$(ffmpeg -v error -i "$dir/colour.mkv" $what -f framemd5 - | grep -v '^#' | awk '{print $2, $NF}')
    if [ -n "$a" ] && [ "$a" = "$b" ]; then passed=$((passed + 1)); else echo "FAILED: differs: $what"; failed=$((failed + 1)); fi
done
expect 0 "1 frame" "$unfade" colorize --size 64 "$source/samples/pictures/chelsea.jpg" "$dir/cat.png"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
