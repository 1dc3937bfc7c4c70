#!/bin/sh
# Builds with warnings as errors and runs every test; then the same under the address and undefined-behaviour
# sanitizers, and the threaded parts under the thread sanitizer. --quick leaves the sanitizers out.
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
packages="$packages libopenmpi-dev openmpi-bin" # training over several processes
need_packages
build release -DUNFADE_MPI=ON
if [ "${1:-}" != --quick ]; then
    build asan
    ctest --preset asan -j2
    build tsan
    ctest --preset tsan
fi
ctest --preset release -j2
