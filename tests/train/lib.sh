# Helpers of the train group; sourced by run.sh.
# shellcheck shell=bash

passed=0 failed=0 skipped=0

check() { # NAME COMMAND...: one test
    local name=$1
    shift
    if "$@" >"$work/test.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL train/$name"
        tail -n 20 "$work/test.log"
    fi
}

skip() { # NAME REASON
    skipped=$((skipped + 1))
    echo "SKIP train/$1: $2"
}

# Pre-tokenized rows of a noisy recurrence over 58 of the model's 61 ids: something to learn.
make_rows() { # ROWS SEED > FILE
    awk -v n="$1" -v seed="$2" '
    function draw(k) { seed = (seed * 16807) % 2147483647; return seed % k }
    BEGIN {
        for (row = 0; row < n; row++) {
            len = 8 + draw(25); id = 1; ids = "1"; labels = "-100"
            for (i = 1; i < len; i++) {
                id = draw(10) ? (id * 3 + 7) % 58 + 3 : 3 + draw(58)
                ids = ids ", " id
                labels = labels ", " (i < 3 ? -100 : id)
            }
            print "{\"input_ids\": [" ids "], \"labels\": [" labels "]}"
        }
    }'
}

# One run on the small model; further arguments go to `ffwd train`.
train() { # OUT [ARGUMENT...]
    local out=$1
    shift
    "$ffwd" train --model "$model" --train "$work/train.jsonl" --valid "$work/valid.jsonl" \
        --device cpu --dtype f32 --threads 1 --config "$work/config.json" --out "$out" "$@"
}

# The same in the background, to be killed by its own id: $pid.
spawn() { # OUT LOG [ARGUMENT...]
    local out=$1 log=$2
    shift 2
    "$ffwd" train --model "$model" --train "$work/train.jsonl" --valid "$work/valid.jsonl" \
        --device cpu --dtype f32 --threads 1 --config "$work/config.json" --out "$out" "$@" >>"$log" &
    pid=$!
}

same_adapter() { # OUT OUT: adapter and metrics are equal to the byte
    cmp "$1/adapter/adapter_model.safetensors" "$2/adapter/adapter_model.safetensors" &&
        cmp "$1/adapter/adapter_config.json" "$2/adapter/adapter_config.json" &&
        cmp "$1/adapter/metrics.csv" "$2/adapter/metrics.csv" &&
        cmp "$1/adapter/README.md" "$2/adapter/README.md"
}

# A number of a JSON line: field KEY < LINE
field() {
    grep -oE "\"$1\": ?-?[0-9.eE+-]+" | head -n 1 | sed 's/.*: *//'
}

close_to() { # A B TOLERANCE
    awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= t) }'
}

status_is() { # WANTED COMMAND...
    local want=$1 got
    shift
    "$@"
    got=$?
    [ "$got" = "$want" ] || {
        echo "exit status $got, not $want"
        return 1
    }
}

# run_with JSON [ARGUMENT...]: a run in a new folder with that configuration; events in end.log.
run_with() {
    printf '%s' "$1" >"$work/end.json"
    shift
    rm -rf "$work/end"
    train "$work/end" --config "$work/end.json" "$@" >"$work/end.log"
}
last_line() {
    tail -n 1 "$work/end.log"
}
