#!/bin/sh
# A scene gets the colours of a still that somebody painted, and no other scene does: reference.sh UNFADE WEIGHTS
set -u
unfade=$1 weights=$2
[ -f "$weights" ] && command -v ffmpeg >/dev/null 2>&1 || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
fail() { echo "FAILED: $*"; exit 1; }
ffmpeg -v error -f lavfi -i testsrc2=s=192x128:r=25:d=0.4 -f lavfi -i mandelbrot=s=192x128:r=25 -filter_complex "[0:v]format=gray[a];[1:v]format=gray[b];[a][b]concat" \
    -frames:v 20 -c:v ffv1 film.mkv || exit 77
ffmpeg -v error -i film.mkv -vf "select=eq(n\,5),format=yuv444p,geq=lum=lum(X\,Y):cb=90:cr=170" -frames:v 1 still.png || exit 77 # all red
redness() { # of the first scene: mean Cr
    ffmpeg -v error -i "$1" -vf "trim=end_frame=10,extractplanes=v" -f rawvideo - | od -An -v -tu1 | awk '{for (i = 1; i <= NF; i++) { s += $i; n++ }} END {printf "%d", s / n}'
}
second() { ffmpeg -v error -i "$1" -vf trim=start_frame=10 -f md5 -; }
"$unfade" colorize -q --codec ffv1 --weights "$weights" film.mkv plain.mkv || fail "colorize"
"$unfade" colorize -q --codec ffv1 --weights "$weights" --reference 5=still.png film.mkv red.mkv || fail "colorize --reference"
[ "$(redness red.mkv)" -gt 155 ] || fail "the scene is not red: $(redness red.mkv), plain $(redness plain.mkv)"
[ "$(redness plain.mkv)" -lt 145 ] || fail "the scene was red before: $(redness plain.mkv)"
[ -n "$(second plain.mkv)" ] && [ "$(second plain.mkv)" = "$(second red.mkv)" ] || fail "the other scene changed"
"$unfade" colorize -q --codec ffv1 --weights "$weights" --scenes red.mkv.scenes film.mkv again.mkv || fail "the table that was left"
[ "$(ffmpeg -v error -i red.mkv -f md5 -)" = "$(ffmpeg -v error -i again.mkv -f md5 -)" ] || fail "another film by the table that was left"
"$unfade" colorize -q --reference 20=still.png film.mkv out.mkv 2>said && fail "frame 20 of 20"
grep -q 'has 20 frames' said && [ ! -e out.mkv ] || fail "of frame 20: $(cat said)"
"$unfade" colorize -q --reference still.png film.mkv out.mkv 2>said
[ $? -eq 64 ] && grep -q 'FRAME=PICTURE' said || fail "of no frame: $(cat said)"
echo "one scene has the still's colours, the other its own"
