# The ways a run ends, and what is refused. Sourced by run.sh.
# shellcheck shell=bash

max_steps() {
    run_with '{"training": {"max_steps": 5}, "hyperparameters": {"batch_size": 2}}' &&
        last_line | grep -q '"status":"succeeded","steps":5,' &&
        grep -q '"step":5,"total_steps":5.*"full_valid_loss"' "$work/end.log"
}
check max_steps max_steps

target_loss() {
    run_with '{"training": {"target_loss": 3.0, "eval_interval": 1, "learning_rate": 0.01, "lr_schedule": "constant"}, "hyperparameters": {"n_epochs": 5, "batch_size": 4}, "fast_forward": {"enabled": false}}' || return 1
    local steps loss before
    steps=$(last_line | field steps)
    loss=$(grep '"full_valid_loss"' "$work/end.log" | grep '"total_steps"' | tail -n 1 | field full_valid_loss)
    before=$(grep '"full_valid_loss"' "$work/end.log" | grep '"total_steps"' | tail -n 2 | head -n 1 | field full_valid_loss)
    grep -q 'has reached training.target_loss' "$work/end.log" &&
        awk -v s="$steps" -v l="$loss" -v b="$before" 'BEGIN { exit !(s < 150 && l <= 3.0 && b > 3.0) }'
}
check target_loss target_loss

early_stopping() {
    run_with '{"training": {"early_stopping": {"patience": 3, "min_delta": 5.0}, "eval_interval": 2}, "hyperparameters": {"batch_size": 4}}' &&
        last_line | grep -q '"status":"succeeded","steps":8,' &&
        grep -q 'training.early_stopping' "$work/end.log"
}
check early_stopping early_stopping

target_without_validation_rows() {
    printf '{"training": {"target_loss": 1.0}}' >"$work/end.json"
    rm -rf "$work/end"
    status_is 20 "$ffwd" train --model "$model" --train "$work/train.jsonl" --device cpu \
        --config "$work/end.json" --out "$work/end" >"$work/end.log" &&
        last_line | grep -q '"param":"training.target_loss"'
}
check target_without_validation_rows target_without_validation_rows

# A rate this high makes everything infinite: three steps are left out, then it is enough.
divergence() {
    status_is 21 run_with '{"lora": {"rank": 1, "alpha": 65536}, "training": {"learning_rate": 1, "lr_schedule": "constant", "warmup_ratio": 0}, "fast_forward": {"enabled": false}}' || return 1
    [ "$(grep -c '"level":"warn".*not finite; the update is left out' "$work/end.log")" = 3 ] &&
        last_line | grep -q '"level":"error".*"status":"failed","error":{"code":"diverged"'
}
check divergence divergence

bad_setting_names_its_field() {
    local case
    for case in '{"lora": {"rank": 0}}|lora.rank' '{"training": {"warmup_ratio": 2}}|training.warmup_ratio' \
        '{"fast_forward": {"search": "best"}}|fast_forward.search' '{"training": {"nonsense": 1}}|training.nonsense' \
        '{"hyperparameters": {"n_epochs": 0}}|hyperparameters.n_epochs' \
        '{"training": {"max_seq_len": 257}}|training.max_seq_len' \
        '{"lora": {"target_modules": ["nothing"]}}|lora.target_modules'; do
        status_is 20 run_with "${case%|*}" && last_line | grep -q "\"param\":\"${case#*|}\"" || {
            echo "$case"
            return 1
        }
    done
}
check bad_setting_names_its_field bad_setting_names_its_field

bad_row_names_its_line() {
    head -n 3 "$work/train.jsonl" >"$work/bad.jsonl" && echo '{"input_ids": [1, 99]}' >>"$work/bad.jsonl" &&
        status_is 20 run_with '{}' --train "$work/bad.jsonl" &&
        last_line | grep -q 'line 4.*"param":"training_file"'
}
check bad_row_names_its_line bad_row_names_its_line

# What was refused has left nothing in OUT: corrected, it starts without --resume.
refused_job_leaves_nothing() {
    rm -rf "$work/refused"
    status_is 20 "$ffwd" train --model "$model" --train "$work/bad.jsonl" --out "$work/refused" >"$work/end.log" || return 1
    status_is 20 "$ffwd" train --model "$model" --train "$work/bad.jsonl" --out "$work/refused" >"$work/end.log" || return 1
    [ -z "$(ls -A "$work/refused")" ] || return 1
    printf '{"training": {"max_steps": 1}}' >"$work/end.json"
    status_is 0 "$ffwd" train --model "$model" --train "$work/train.jsonl" --out "$work/refused" --config "$work/end.json" >"$work/end.log"
}
check refused_job_leaves_nothing refused_job_leaves_nothing

# A complete job needs no model, no data and no time.
complete_job_is_done_at_once() {
    status_is 0 "$ffwd" train --model "$work/none" --train "$work/none" --out "$work/refused" --resume >"$work/again.log" &&
        [ "$(wc -l <"$work/again.log")" = 1 ] &&
        [ "$(sed 's/.*"data"//' "$work/again.log")" = "$(tail -n 1 "$work/end.log" | sed 's/.*"data"//')" ]
}
check complete_job_is_done_at_once complete_job_is_done_at_once

dry_run_trains_nothing() {
    printf '{"dry_run": true}' >"$work/end.json"
    rm -rf "$work/end"
    status_is 20 "$ffwd" train --model "$model" --train "$work/train.jsonl" --out "$work/end" --config "$work/end.json" >"$work/end.log" &&
        last_line | grep -q '"param":"dry_run"' && [ ! -e "$work/end" ]
}
check dry_run_trains_nothing dry_run_trains_nothing

usage_errors() {
    status_is 2 "$ffwd" train && status_is 2 "$ffwd" train --model "$model" --train x &&
        status_is 2 "$ffwd" train --nonsense && status_is 2 "$ffwd" train --threads many &&
        status_is 0 "$ffwd" train --help &&
        status_is 2 train "$work/reference" && status_is 2 train "$work/new" --dtype f64
}
check usage_errors usage_errors

folder_without_a_model() {
    status_is 20 train "$work/nothing" --model "$work" >"$work/end.log" &&
        last_line | grep -q '"status":"failed"'
}
check folder_without_a_model folder_without_a_model

going_on_from_an_adapter() {
    run_with '{"training": {"max_steps": 1, "warmup_ratio": 0}, "seed": 7}' --init-adapter "$work/reference/adapter" || return 1
    grep -q '"r": 4' "$work/end/adapter/adapter_config.json" || return 1
    local first last
    first=$(grep '"step":1,' "$work/end.log" | field train_loss)
    last=$(grep '"step":1,' "$work/reference.log" | field train_loss)
    awk -v a="$first" -v b="$last" 'BEGIN { exit !(a < b - 1) }' || return 1
    status_is 20 run_with '{"lora": {"rank": 8}}' --init-adapter "$work/reference/adapter" &&
        last_line | grep -q '"param":"lora.rank"'
}
check going_on_from_an_adapter going_on_from_an_adapter

# One row, no validation file: trains, and says that Fast Forward has nothing to measure on.
one_row() {
    head -n 1 "$work/train.jsonl" >"$work/one.jsonl"
    rm -rf "$work/end"
    "$ffwd" train --model "$model" --train "$work/one.jsonl" --device cpu --out "$work/end" >"$work/end.log" &&
        grep -q '"level":"warn","message":"Fast Forward is off' "$work/end.log" &&
        last_line | grep -q '"steps":25,'
}
check one_row one_row
