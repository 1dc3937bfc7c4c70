#!/bin/sh
# Builds unfade, colours the sample film, and shows where the result and a before/after picture lie.
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
need_packages
build release
mkdir -p out
film=samples/clip/album.mp4
if [ ! -f out/album-colour.mp4 ] || [ build/release/unfade -nt out/album-colour.mp4 ] ||
    [ models/weights/color.safetensors -nt out/album-colour.mp4 ]; then
    build/release/unfade colorize --overwrite $film out/album-colour.mp4
    ffmpeg -v error -y -ss 1 -i $film -ss 1 -i out/album-colour.mp4 \
        -filter_complex '[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]hstack' -frames:v 1 out/before-after.png
fi
echo "the film, coloured:   $PWD/out/album-colour.mp4"
echo "before and after:     $PWD/out/before-after.png"
echo "your own film:        build/release/unfade colorize IN OUT"
