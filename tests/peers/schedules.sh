#!/bin/bash
# What the schedule and small pictures first are worth, three seeds each, for docs/numbers.md; half an hour on one core.
#   bash tests/peers/schedules.sh UNFADE SMALL LARGE OUT
# SMALL: a folder of many small pictures (tiny-imagenet-200/train); LARGE: one of some hundred photographs. OUT gets a folder a run, with its log.csv and held_out.csv. Printed: the held-out
# loss at the end, and the seconds of computing of the whole run, which do not depend on who else uses the machine.
set -eu
unfade=$1 small=$(realpath "$2") large=$(realpath "$3") out=$4
TIMEFORMAT=%U
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
  - {path: $3, weight: 1, exclude_every: ${4%:*}}
valid:
  - {path: $3, only_every: ${4#*:}}
stages:
$6
losses: {l1: 5, l2: 10}
decay: 0.01
clip: 5
average: 0
checkpoint_every: 1000000
sample_every: 1000000
valid_every: $5
workers: 1
R
    seconds=$({ time "$unfade" train "$out/$1-$2.yaml" --out "$out/$1-$2" --threads 1 --overwrite -q; } 2>&1)
    echo "$1, seed $2: step and held-out loss $(tail -1 "$out/$1-$2/held_out.csv"), $seconds s"
}

for seed in 1 2 3; do # the same rate for both; one-cycle has half of the steps
    run one-cycle $seed "$small" 50:400 100 "  - {size: 64, batch: 4, steps: 800, rate: 0.003, noise: 0.05, smallest: 0.4}"
    run constant $seed "$small" 50:400 100 "  - {size: 64, batch: 4, steps: 1600, rate: 0.003, constant: true, noise: 0.05, smallest: 0.4}"
done
for seed in 1 2 3; do # 128 px from the beginning, or 64 px for most of the steps
    run full-size $seed "$large" 10:10 10 "  - {size: 128, batch: 8, steps: 250, rate: 0.003, noise: 0.05, smallest: 0.4}"
    run progressive $seed "$large" 10:10 10 "  - {size: 64, batch: 8, steps: 200, rate: 0.003, noise: 0.05, smallest: 0.4}
  - {size: 128, batch: 8, steps: 80, rate: 0.0015, noise: 0.05, smallest: 0.4}"
done
