#!/bin/sh
# Damaged films: each ends within a minute in a film whose brightness is what FFmpeg reads from the input, or in one sentence and no
# output; never in a crash, and never in a film of damaged frames without a word: film_fuzz.sh UNFADE [CASES] [SEED]
# KEEP=FOLDER in the environment: what failed is kept there.
set -u
unfade=$1 cases=${2:-15} seed=${3:-1}
command -v ffmpeg >/dev/null 2>&1 || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failed=0 films=0 refused=0
bad() {
    echo "FAILED: case $case: $*"
    failed=$((failed + 1))
    [ -z "${KEEP:-}" ] || cp "$in" "$KEEP/case-$case-$in"
}
luma() { ffmpeg -v error -i "$1" -map 0:v:0 -fps_mode passthrough -vf extractplanes=y -f framemd5 - 2>"$1.err" | grep -v '^#' | awk '{print $NF}'; }

make="-f lavfi -i testsrc2=s=96x64:r=25:d=1.6 -f lavfi -i sine=f=440:d=1.6 -vf format=yuv420p -shortest"
# shellcheck disable=SC2086 # options on purpose
{
    ffmpeg -v error -y $make -c:v libx264 -bf 2 -g 10 -c:a aac 0.mp4
    ffmpeg -v error -y $make -c:v ffv1 -slicecrc 1 -level 3 -c:a pcm_s16le 1.mkv
    ffmpeg -v error -y $make -c:v mpeg4 -c:a mp2 2.avi
    ffmpeg -v error -y $make -c:v mpeg2video -c:a mp2 3.ts
    ffmpeg -v error -y $make -c:v libvpx-vp9 -b:v 0 -crf 40 -cpu-used 8 -c:a libopus 4.webm
} || exit 77

case=0
while [ $case -lt "$cases" ]; do
    for name in 0.mp4 1.mkv 2.avi 3.ts 4.webm; do
        [ $case -lt "$cases" ] || break
        case=$((case + 1))
        in=damaged.${name##*.}
        cp "$name" "$in"
        size=$(wc -c <"$name")
        # a few bytes changed, a stretch of zeros, or an end that is missing
        awk -v s="$((seed * 100000 + case))" -v n="$size" 'BEGIN {
            srand(s); kind = int(3 * rand())
            if (kind == 2) { print "cut", int(n * rand()); exit }
            for (k = 0; k < (kind ? 1 : 1 + int(6 * rand())); k++) print kind ? "zero" : "byte", int(n * rand()), int(256 * rand()), 1 + int(200 * rand())
        }' | while read -r what at value count; do
            case $what in
            cut) truncate -s "$at" "$in" ;;
            zero) dd if=/dev/zero of="$in" bs=1 seek="$at" count="$count" conv=notrunc 2>/dev/null ;;
            byte) printf "\\$(printf %o "$value")" | dd of="$in" bs=1 seek="$at" conv=notrunc 2>/dev/null ;;
            esac
        done
        rm -rf out.mkv out.mkv.unfade-job
        timeout -s KILL 60 "$unfade" colorize --size 64 --codec ffv1 "$in" out.mkv >said 2>&1
        got=$?
        if [ $got -eq 0 ]; then
            films=$((films + 1))
            [ "$(luma "$in")" = "$(luma out.mkv)" ] || grep -q 'warning' said || bad "another brightness, and no warning: $(cat "$in.err")"
        else
            refused=$((refused + 1))
            case $got in 1 | 64 | 65) ;; *) bad "exit $got: $(tail -3 said)" ;; esac
            [ ! -e out.mkv ] || bad "an output beside exit $got"
            [ ! -e out.mkv.unfade-job ] || bad "a job is left beside exit $got"
            grep -q '^unfade: ' said || bad "exit $got without a sentence: $(cat said)"
        fi
    done
done
echo "$case damaged films: $films coloured, $refused refused, $failed wrong"
[ $failed -eq 0 ]
