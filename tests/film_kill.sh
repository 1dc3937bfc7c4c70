#!/bin/sh
# A film whose making is killed (SIGKILL) again and again at random moments, and stopped (SIGTERM), comes out as from a run that
# nobody disturbed, to the last bit: film_kill.sh UNFADE [KILLS] [SEED]
set -u
unfade=$1 kills_wanted=${2:-6} seed=${3:-1}
command -v ffmpeg >/dev/null 2>&1 || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
fail() { echo "FAILED: $*"; exit 1; }
ffmpeg -v error -f lavfi -i testsrc2=s=96x64:r=25:d=60 -f lavfi -i sine=440:d=60 -pix_fmt gray -c:v ffv1 -c:a aac -shortest film.mkv || exit 77

start=$(date +%s%N)
"$unfade" colorize -q --scratch --deflicker --steady --size 64 film.mkv whole.mkv || fail "the undisturbed run"
took=$(($(date +%s%N) - start)) # the waits are shares of this machine's own time
kills=0 tries=0 films=0
while [ $kills -lt "$kills_wanted" ] && [ $tries -lt 200 ]; do
    "$unfade" colorize -q --scratch --deflicker --steady --size 64 film.mkv killed.mkv 2>said &
    pid=$!
    sleep "$(awk -v s="$((seed * 1000 + tries))" -v t="$took" 'BEGIN { srand(s); printf "%.3f", t / 1e9 * (.1 + .8 * rand()) }')"
    if kill -$([ $((tries % 4)) -eq 3 ] && echo TERM || echo KILL) $pid 2>/dev/null; then
        wait $pid 2>/dev/null
        kills=$((kills + 1))
        [ ! -e killed.mkv ] || { cmp -s whole.mkv killed.mkv || fail "a wrong film after $kills kills"; rm killed.mkv; }
    elif wait $pid; then
        cmp -s whole.mkv killed.mkv || fail "another film after $kills kills"
        films=$((films + 1))
        rm killed.mkv
    else
        fail "after $kills kills: $(cat said)"
    fi
    tries=$((tries + 1))
done
"$unfade" colorize -q --scratch --deflicker --steady --size 64 film.mkv killed.mkv 2>said || fail "after $kills kills: $(cat said)"
cmp -s whole.mkv killed.mkv || fail "another film after $kills kills"
[ "$(ls -A | sort | tr '\n' ' ')" = "film.mkv killed.mkv said whole.mkv " ] || fail "left behind: $(ls -A)"
echo "$kills kills, $((films + 1)) films: the same bits"
