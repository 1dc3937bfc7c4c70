#!/bin/sh
# What the schedule and small pictures first are worth, three seeds each, for docs/numbers.md; an hour on one core.
#   sh tests/peers/schedules.sh UNFADE TINY_IMAGENET PHOTOGRAPHS OUT
# TINY_IMAGENET: a folder of many small pictures; PHOTOGRAPHS: one of a thousand larger ones. OUT gets a folder a run, each with its log.csv
# and held_out.csv.
set -eu
unfade=$1 small=$(realpath "$2") large=$(realpath "$3") out=$4
root=$(cd "$(dirname "$0")/../.." && pwd)
export OMP_WAIT_POLICY=passive
mkdir -p "$out"

# run NAME SEED PICTURES HELD_OUT_EVERY VALID_EVERY STAGES
run() {
    cat >"$out/$1-$2.yaml" <<R
model: color
out: color.safetensors
seed: $2
init: $root/models/weights/features.safetensors
train:
  - {path: $3, weight: 1, exclude_every: $4}
valid:
  - {path: $3, only_every: $5}
stages:
$7
losses: {l1: 5, l2: 10}
decay: 0.01
clip: 5
average: 0
checkpoint_every: 1000000
sample_every: 1000000
valid_every: $6
workers: 1
R
    "$unfade" train "$out/$1-$2.yaml" --out "$out/$1-$2" --threads 1 --overwrite -q
    printf '%s, seed %s: ' "$1" "$2"
    tail -1 "$out/$1-$2/held_out.csv"
}

for seed in 1 2 3; do
    # the same rate for both; one-cycle has half of the steps
    run one-cycle $seed "$small" 50 400 50 "  - {size: 64, batch: 8, steps: 400, rate: 0.003, noise: 0.05, smallest: 0.4}"
    run constant $seed "$small" 50 400 50 "  - {size: 64, batch: 8, steps: 800, rate: 0.003, constant: true, noise: 0.05, smallest: 0.4}"
    # 128 px from the beginning, or 64 px for most of the steps
    run full-size $seed "$large" 10 10 20 "  - {size: 128, batch: 8, steps: 400, rate: 0.003, noise: 0.05, smallest: 0.4}"
    run progressive $seed "$large" 10 10 20 "  - {size: 64, batch: 16, steps: 260, rate: 0.003, noise: 0.05, smallest: 0.4}
  - {size: 128, batch: 8, steps: 100, rate: 0.0015, noise: 0.05, smallest: 0.4}"
done
