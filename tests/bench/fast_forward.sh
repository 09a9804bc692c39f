#!/bin/bash
# What Fast Forward saves on the sample task: a run without it to its best held-out loss, then a run
# with it until that loss is reached, both measured every 5 steps on the same rows: in the paper's
# regime (batches of 64, a low constant rate), with batches of 64 at the automatic rate and its
# schedule, and with everything left automatic (small batches, where a stage is dear). The rows
# that Fast Forward measures on are in neither loss. One JSON line per setting. Ratios are FLOPs with
# Fast Forward / FLOPs without: ratio_lora counts a training step as 2 forwards (what LoRA costs),
# ratio_paper as 3 (the paper's accounting).
# usage: tests/bench/fast_forward.sh BUILD_DIR [MODEL_DIR]
set -euo pipefail
ffwd=$(realpath "${1:?usage: tests/bench/fast_forward.sh BUILD_DIR [MODEL_DIR]}")/ffwd
cd "$(dirname "$0")/../.."
model=${2:-examples/models/ffwd-tiny}
data=examples/data
work=$(mktemp -d "${TMPDIR:-/tmp}/ffwd-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
[ -d "$model" ] || {
    echo "bench: there is no $model" >&2
    exit 1
}
tail -n +33 "$data/orders-valid.jsonl" >"$work/held-out.jsonl"

run() { # NAME VALIDATION_FILE CONFIG: events in NAME.jsonl
    printf '%s' "$3" >"$work/$1.json"
    "$ffwd" train --model "$model" --train "$data/orders-train.jsonl" --valid "$2" --device cpu \
        --config "$work/$1.json" --out "$work/$1" >"$work/$1.jsonl"
    rm -rf "${work:?}/$1"
}

compare() { # SETTING HYPERPARAMETERS TRAINING_SETTINGS
    local common="\"seed\": 1, \"hyperparameters\": {$2}" target
    run plain "$work/held-out.jsonl" \
        "{$common, \"fast_forward\": {\"enabled\": false}, \"training\": {\"eval_interval\": 5$3}}"
    target=$(jq -s 'map(.data.full_valid_loss // empty) | min' "$work/plain.jsonl")
    run fast "$data/orders-valid.jsonl" \
        "{$common, \"training\": {\"eval_interval\": 5, \"target_loss\": $target$3}}"
    jq -nc --arg setting "$1" --argjson target "$target" --slurpfile plain "$work/plain.jsonl" \
        --slurpfile fast "$work/fast.jsonl" '
        ($plain | map(.data | select(.full_valid_loss and .full_valid_loss <= $target))[0]) as $p |
        ($fast | map(.data | select(.total_steps and .full_valid_loss)) | last) as $f |
        ($fast | last | .data.flops) as $split |
        ($fast | map(.data.fast_forward // empty)) as $stages |
        {bench: "fast_forward", setting: $setting, target_loss: $target,
         plain: {step: $p.step, flops: $p.flops},
         fast_forward: {step: $f.step, reached: ($f.full_valid_loss <= $target), loss: $f.full_valid_loss,
             training_flops: $split.training, search_flops: $split.fast_forward,
             stages: ($stages | length), evaluations: ($stages | map(.evaluations) | add),
             simulated_steps: ($stages | map(.tau) | add)},
         ratio_lora: (($split.training + $split.fast_forward) / $p.flops),
         ratio_paper: ((1.5 * $split.training + $split.fast_forward) / (1.5 * $p.flops))}'
}

big='"n_epochs": 7, "batch_size": 64'
compare "batch 64, constant rate 3e-4" "$big" ', "learning_rate": 0.0003, "lr_schedule": "constant"'
compare "batch 64, automatic rate" "$big" ''
compare "all automatic" '"n_epochs": 3' ''
