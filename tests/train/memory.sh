# The resident peak is what was planned before the first step. Sourced by run.sh.
# shellcheck shell=bash

# COMMAND...: its output, then its resident peak in bytes.
with_peak() {
    python3 -c '
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(status)' "$@"
}

# LOW HIGH < OUTPUT: the peak over the total of "memory_bytes" or "planned_bytes".
kept() {
    awk -v low="$1" -v high="$2" '
        match($0, /"(memory|planned)_bytes":\{[^}]*"total":[0-9]+/) && !planned {
            planned = substr($0, RSTART, RLENGTH); sub(/.*:/, "", planned)
        }
        $1 == "peak" { peak = $2 }
        END {
            print "peak", peak, "planned", planned
            exit !(planned > 0 && peak >= low * planned && peak <= high * planned)
        }'
}

# A model of 2 MB: what the process needs besides weighs as much as what is planned to the byte.
a_run_takes_what_was_planned() {
    local small=examples/models/ffwd-tiny data=examples/data dtype
    for dtype in f32 bf16; do
        for batch in 1 32; do
            echo '{"hyperparameters": {"batch_size": '$batch'}, "training": {"max_steps": 12}}' \
                >"$work/memory.json"
            rm -rf "$work/memory"
            with_peak "$ffwd" train --model $small --train $data/orders-train.jsonl \
                --valid $data/orders-valid.jsonl --out "$work/memory" --device cpu --threads 2 \
                --dtype $dtype --config "$work/memory.json" >"$work/memory.log" || return 1
            kept 0.75 1.1 <"$work/memory.log" || return 1
        done
    done
}

# A row that is a whole pass, dropout, and more threads than processors: each has scratch memory.
a_run_with_dropout_and_many_threads_takes_what_was_planned() {
    local small=examples/models/ffwd-tiny dtype threads
    python3 -c '
import json
row = {"prompt": "Count.", "completion": " ".join(str(i * 7 % 1000) for i in range(260))}
for _ in range(24):
    print(json.dumps(row))' >"$work/long.jsonl"
    echo '{"hyperparameters": {"batch_size": 4}, "lora": {"dropout": 0.1}, "training": {"max_steps": 4}}' \
        >"$work/memory.json"
    for dtype in f32 bf16; do
        for threads in 2 8; do
            rm -rf "$work/memory"
            with_peak "$ffwd" train --model $small --train "$work/long.jsonl" --out "$work/memory" \
                --device cpu --threads $threads --dtype $dtype --config "$work/memory.json" \
                >"$work/memory.log" || return 1
            kept 0.75 1.1 <"$work/memory.log" || return 1
        done
    done
}

a_step_of_a_larger_model_takes_what_was_planned() {
    with_peak "$ffwd" bench --shape smollm2-135m --device cpu --dtype bf16 --seq 128 --batch 2 \
        --steps 1 --threads 2 >"$work/memory.log" && kept 0.95 1.05 <"$work/memory.log"
}

for name in a_run_takes_what_was_planned a_run_with_dropout_and_many_threads_takes_what_was_planned \
    a_step_of_a_larger_model_takes_what_was_planned; do
    if nm "$ffwd" | grep -q __asan_init; then
        skip $name "AddressSanitizer's own memory is resident too"
    else
        check $name $name
    fi
done
