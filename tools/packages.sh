# Debian 12 packages that building, testing and the demo need: the one list. Sourced by demo.sh and check.sh, which run
# in the project's folder. On another system it says what is missing and stops.
packages="build-essential cmake ninja-build pkg-config libdnnl-dev libavformat-dev libavcodec-dev libavfilter-dev
libavutil-dev libswresample-dev libsndfile1-dev libfftw3-dev libxxhash-dev libssl-dev libjansson-dev libcyaml-dev libarchive-dev
libcairo2-dev libzimg-dev libcmocka-dev ffmpeg scdoc"

need_packages() {
    missing=
    if command -v dpkg-query >/dev/null 2>&1; then
        for p in $packages; do
            dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $p"
        done
        [ -z "$missing" ] && return 0
        as=
        [ "$(id -u)" = 0 ] || as=sudo
        echo "installing:$missing"
        $as apt-get update -q >/dev/null
        # shellcheck disable=SC2086 # a list on purpose
        DEBIAN_FRONTEND=noninteractive $as apt-get install -y -q --no-install-recommends $missing >/dev/null
        return 0
    fi
    for c in cc cmake ninja pkg-config ffmpeg; do
        command -v $c >/dev/null 2>&1 || missing="$missing $c"
    done
    for l in fftw3f libxxhash libssl jansson libcyaml libarchive cairo zimg libavformat libavcodec libavfilter libavutil libswresample sndfile cmocka; do
        pkg-config --exists $l 2>/dev/null || missing="$missing $l"
    done
    [ -z "$missing" ] && return 0
    echo "this is not Debian; please install:$missing oneDNN (dnnl.h)" >&2
    exit 1
}

# Builds preset $1, with the settings that follow; says little when nothing changed.
build() {
    preset=$1
    shift
    { [ $# -eq 0 ] && [ -f "build/$preset/build.ninja" ]; } || cmake --preset "$preset" "$@" >/dev/null
    cmake --build "build/$preset" -- --quiet
}
