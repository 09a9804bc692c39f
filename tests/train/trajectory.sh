# 50 steps of every reference case against transformers + PEFT + torch's AdamW in f32
# (tests/reference/make_reference.py). Sourced by run.sh.
# shellcheck shell=bash

numbers() { # KEY FILE: an array's values of the "train" part, one a line
    sed -n 's/.*"train": {\(.*\)}.*/\1/p' "$2" | grep -o "\"$1\": \[[^]]*\]" | tr -d '[],' | tr ' ' '\n' | tail -n +2
}
number() { # KEY FILE
    sed -n 's/.*"train": {\(.*\)}.*/\1/p' "$2" | field "$1"
}

trajectory() { # CASE
    local dir=$cases/$1 out=$work/trajectory-$1
    cat >"$work/trajectory.json" <<END
{"hyperparameters": {"n_epochs": 100, "batch_size": $(number batch "$dir/expected.json")},
 "fast_forward": {"enabled": false},
 "training": {"learning_rate": $(number learning_rate "$dir/expected.json"), "lr_schedule": "constant", "warmup_ratio": 0,
  "weight_decay": $(number weight_decay "$dir/expected.json"), "shuffle": false,
  "max_steps": $(number steps "$dir/expected.json")}}
END
    "$ffwd" train --model "$dir" --train "$dir/rows.jsonl" --init-adapter "$dir/adapter" --device cpu --dtype f32 \
        --threads 1 --config "$work/trajectory.json" --out "$out" >/dev/null || return 1
    paste -d' ' <(numbers losses "$dir/expected.json") <(numbers grad_norms "$dir/expected.json") \
        <(tail -n +2 "$out/adapter/metrics.csv" | tr ',' ' ' | awk -F' ' '{ print $2, $(NF - 2) }') |
        awk '{ d = $1 - $3; if (d < 0) d = -d; if (d > worst) worst = d
               g = ($2 - $4) / $2; if (g < 0) g = -g; if (g > norm) norm = g }
             END { print NR, "steps, loss within", worst, "gradient norm within", norm
                   exit NR != 50 || worst > 1e-5 || norm > 1e-4 }'
}
for dir in "$cases"/*/; do
    check "trajectory/$(basename "$dir")" trajectory "$(basename "$dir")"
done
