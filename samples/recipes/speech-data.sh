#!/bin/sh
# The recordings that the recipes of speech name, out of Debian's packages: voices, noises and music under free licences
# (docs/speech.md). Needs Debian or a relative of it, 10 GB while it works, 3 GB in the end, ffmpeg and unzip; installs nothing.
#   sh speech-data.sh [FOLDER]        FOLDER: where to put them; data, beside the recipes, is where those look
set -eu
data=${1:-$(dirname "$0")/data}
mkdir -p "$data"
data=$(cd "$data" && pwd)
for c in apt-get dpkg-deb ffmpeg unzip; do
    command -v $c >/dev/null || { echo "speech-data.sh: '$c' is missing; please install it" >&2; exit 1; }
done
work=$data/.packages
mkdir -p "$work"
chmod 755 "$work"

# The sounds in package $1, in $work/$1: the rest of most is pictures by the gigabyte.
unpack() {
    [ -e "$work/$1.done" ] && return 0
    echo "$1"
    rm -rf "${work:?}/$1"
    mkdir -p "$work/$1/deb"
    (cd "$work/$1/deb" && apt-get download -q "$1" >/dev/null 2>&1) || { echo "speech-data.sh: cannot download '$1'; is Debian's list of packages up to date?" >&2; exit 1; }
    dpkg-deb --fsys-tarfile "$work/$1/deb/"*.deb | tar -x -C "$work/$1" --wildcards --no-anchored '*.wav' '*.ogg' '*.mp3' '*.flac' '*.g722' '*.zip' 2>/dev/null || true
    rm -r "$work/$1/deb"
    : >"$work/$1.done"
}

# take TO FROM [TESTS OF find...]: the sounds below FROM as TO/NAME; names keep their folders, joined by dashes.
take() {
    to=$data/$1 from=$2
    shift 2
    [ -d "$to" ] && return 0
    rm -rf "$to.part"
    mkdir -p "$to.part"
    (cd "$from" && find . -type f "$@" \( -name '*.wav' -o -name '*.ogg' -o -name '*.mp3' -o -name '*.flac' -o -name '*.g722' \)) | sort | while read -r f; do
        name=$(echo "${f#./}" | tr / -)
        case $f in # a g722 file says nothing about itself
        *.g722) ffmpeg -v error -nostdin -f g722 -i "$from/$f" -ar 16000 "$to.part/${name%.g722}.flac" ;;
        *) cp "$from/$f" "$to.part/$name" ;;
        esac
    done
    mv "$to.part" "$to"
    echo "  $to: $(find "$to" -type f | wc -l) recordings"
}

games=usr/share/games
for p in festvox-ru asterisk-core-sounds-fr-g722 asterisk-core-sounds-it-g722 asterisk-core-sounds-ru-g722 asterisk-core-sounds-en-g722 \
    fillets-ng-data-cs fillets-ng-data-nl tuxpaint-stamps-default 0ad-data hedgewars-data lincity-ng-data bucklespring-data sonic-pi-samples \
    klettres-data ktuberling-data unknown-horizons searchandrescue-data flightgear-data-base torcs-data wesnoth-1.16-music; do
    unpack $p
done
mkdir -p "$data/voice" "$data/noise" "$data/test-voice" "$data/test-noise"

# ---- for training. asterisk-core-sounds-es stays away: its speaker is that of the English test recordings.
take voice/festvox-ru "$work/festvox-ru/usr/share/festival"
for l in fr it ru; do take voice/asterisk-$l "$work/asterisk-core-sounds-$l-g722/usr/share/asterisk" ! -path '*/silence/*'; done
take voice/fillets-cs "$work/fillets-ng-data-cs/$games"
for l in es ru ro ca bg; do take voice/tux-$l "$work/tuxpaint-stamps-default/usr/share/tuxpaint" -name "*_desc_$l.*"; done
# of the whole band and without noise, for speech-wide
for l in de en_GB nds uk lt tn ru; do take voice/klettres-$l "$work/klettres-data/usr/share/klettres/$l"; done
for l in en lt ga uk; do take voice/ktuberling-$l "$work/ktuberling-data/usr/share/ktuberling/sounds/$l"; done
if [ ! -d "$data/noise/0ad-music" ]; then
    unzip -q -o "$work/0ad-data/$games/0ad/mods/public/public.zip" 'audio/*' -d "$work/0ad-data"
    audio=$work/0ad-data/audio
    take noise/0ad-ambient "$audio/ambient"
    take noise/0ad-actor "$audio/actor" ! -path '*/death/*'
    take noise/0ad-attack "$audio/attack"
    take noise/0ad-resource "$audio/resource"
    take noise/0ad-music "$audio/music"
fi
take noise/hedgewars "$work/hedgewars-data/$games/hedgewars/Data/Sounds" ! -path '*/voices/*'
take noise/lincity "$work/lincity-ng-data/$games/lincity-ng"
take noise/buckle "$work/bucklespring-data/usr/share/buckle"
take noise/sonic-pi "$work/sonic-pi-samples/usr/share/sonic-pi/samples"

# ---- never for training
take test-voice/asterisk-en "$work/asterisk-core-sounds-en-g722/usr/share/asterisk" ! -path '*/silence/*'
take test-voice/fillets-nl "$work/fillets-ng-data-nl/$games"
take test-voice/tux-be "$work/tuxpaint-stamps-default/usr/share/tuxpaint" -name '*_desc_be.*' # of the whole band
take test-noise/unknown-horizons "$work/unknown-horizons/usr/share/unknown-horizons/content/audio" ! -path '*/voice/*'
take test-noise/searchandrescue "$work/searchandrescue-data/$games"
take test-noise/flightgear "$work/flightgear-data-base/$games/flightgear" ! -path '*/mk-viii/*' ! -path '*/tcas/*' # those speak
take test-noise/torcs "$work/torcs-data/$games"
take test-noise/wesnoth-music "$work/wesnoth-1.16-music/$games"
rm -rf "$work"
