#!/bin/sh
# Two processes that share a run learn what one learns alone from the same batches, stop together, go on together, and fail together:
# train_mpi.sh UNFADE SOURCE MPIRUN
set -u
unfade=$1 source=$2 mpirun=$3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_plm=isolated # Open MPI asks for ssh even where it needs none
fail() { echo "FAILED: $*"; exit 1; }
"$mpirun" -n 2 true 2>why || { echo "MPI cannot start two processes here: $(head -3 why)"; exit 77; }
recipe() {
    cat <<END
model: color
out: w.safetensors
seed: 5
init: $source/models/weights/color.safetensors
train: [{path: $source/samples/pictures}]
valid: [{path: $source/samples/pictures}]
stages:
  - {size: 64, batch: 4, accumulate: $1, steps: 8, rate: 0.0002, noise: 0.05}
  - {size: 96, batch: 4, accumulate: 2, steps: 4, rate: 0.0002, freeze: enc.}
losses: {l1: 1}
average: 0.9
checkpoint_every: 3
valid_every: 1
END
}
# Losses of every step, and held-out losses, which look through the norms' running statistics. A rounding that falls the other way
# grows from step to step: the first four are held to their digits, the rest to two hundredths.
same() {
    awk -F, 'function far(a, b, by) { return a - b > by * b || b - a > by * b }
             NR == FNR { loss[$1] = $5; n++; next }
             $1 != "step" && far($5, loss[$1], $1 <= 4 ? 1e-5 : 2e-2) { bad = 1 }
             END { exit bad || FNR != n }' one/log.csv "$1/log.csv" || fail "other losses in $1"
    for run in one "$1"; do sed -n 's/.*step \([0-9]*\) held-out loss /\1 /p' $run.log; done | awk 'function far(a, b, by) { return a - b > by * b || b - a > by * b }
             !($1 in loss) { loss[$1] = $2; n++; next }
             far($2, loss[$1], $1 <= 4 ? 2e-3 : 2e-2) { bad = 1 }
             END { exit bad || NR != 2 * n || n < 12 }' || fail "other held-out losses in $1"
}

recipe 4 >recipe.yaml
"$unfade" train --threads 1 recipe.yaml --out one 2>one.log || exit 1
"$mpirun" -n 2 "$unfade" train --threads 1 recipe.yaml --out two 2>two.log || exit 1
same two
"$mpirun" -n 2 "$unfade" train --threads 1 recipe.yaml --out parts --max-seconds 1 2>parts.log && fail "was not stopped"
grep -q 'resume' parts.log || fail "stopped without a word of --resume: $(cat parts.log)"
"$mpirun" -n 2 "$unfade" train --threads 1 recipe.yaml --out parts --resume 2>>parts.log || exit 1
same parts
recipe 3 >recipe.yaml
"$mpirun" -n 2 "$unfade" train -q --threads 1 recipe.yaml --out odd 2>said && fail "3 batches among 2 processes"
grep -q 'multiple' said || fail "no reason: $(cat said)"
echo "two processes: the losses of one"
