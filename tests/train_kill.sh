#!/bin/sh
# A training run that is killed (SIGKILL) again and again at random moments, in its stages and in its finish, ends in the same
# bits as one that nobody disturbed: train_kill.sh UNFADE SOURCE [SEED]
set -u
unfade=$1 source=$2 seed=${3:-1}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
cat >recipe.yaml <<END
model: color
out: w.safetensors
seed: 5
train: [{path: $source/samples/pictures}]
valid: [{path: $source/samples/pictures}]
features: $source/models/weights/features.safetensors
stages:
  - {size: 32, batch: 2, steps: 12, rate: 0.001, noise: 0.05}
  - {size: 64, batch: 1, steps: 6, rate: 0.001, freeze: enc.}
losses: {l1: 1}
average: 0.9
checkpoint_every: 3
sample_every: 1000
finish: {size: 32, batch: 2, critic_steps: 4, steps: 6, check_every: 2, rate: 0.001, gate: 5, losses: {feature: 1}}
END
sum() { "$unfade" info --json "$1/w.safetensors" | sed -n 's/.*"sha256": *"\([0-9a-f]*\)".*/\1/p'; }

start=$(date +%s%N)
"$unfade" train -q recipe.yaml --out whole || exit 1
took=$(($(date +%s%N) - start)) # the waits are shares of this machine's own time

kills=0 done=0
while [ $done -eq 0 ] && [ $kills -lt 200 ]; do
    "$unfade" train -q recipe.yaml --resume --out killed 2>said &
    pid=$!
    # at first too short to get anywhere, then longer, so that it comes to an end
    wait_for=$(awk -v s="$((seed * 1000 + kills))" -v t="$took" -v k="$kills" \
        'BEGIN { srand(s); printf "%.3f", t / 1e9 * (.02 + (.2 + k / 40) * rand()) }')
    sleep "$wait_for"
    if kill -9 $pid 2>/dev/null; then
        wait $pid 2>/dev/null
        kills=$((kills + 1))
    elif wait $pid; then
        done=1
    else
        echo "FAILED after $kills kills: $(cat said)"
        exit 1
    fi
done
[ $done -eq 1 ] || { echo "FAILED: never came to an end"; exit 1; }
if [ -z "$(sum whole)" ] || [ "$(sum whole)" != "$(sum killed)" ]; then
    echo "FAILED: after $kills kills the weights are other ones: $(sum whole) $(sum killed)"
    exit 1
fi
lines=$(wc -l <whole/log.csv)
[ "$lines" -eq "$(wc -l <killed/log.csv)" ] || { echo "FAILED: the log has lost or doubled lines"; exit 1; }
echo "$kills kills: the same bits"
