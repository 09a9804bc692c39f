# Fast Forward inside runs. Sourced by run.sh.
# shellcheck shell=bash

# ff_run NAME SEARCH: a run at a low constant rate, where stages have far to go.
ff_run() {
    cat >"$work/ff.json" <<END
{"seed": 3, "hyperparameters": {"n_epochs": 2, "batch_size": 8},
 "fast_forward": {"search": "$2", "max_steps": 200, "validation_examples": 4},
 "training": {"learning_rate": 0.0003, "lr_schedule": "constant"}}
END
    train "$work/$1" --config "$work/ff.json" >"$work/$1.log"
}

# tau, evaluations, loss before and after of every stage, a line each
stages() { # LOG
    sed -n 's/.*"fast_forward":{"tau":\([0-9]*\),"evaluations":\([0-9]*\),"loss_before":\([^,]*\),"loss_after":\([^,]*\),"flops":.*/\1 \2 \3 \4/p' "$1"
}

linear_stages() {
    ff_run linear linear && stages "$work/linear.log" |
        awk '{ n++; if ($4 > $3 || ($1 == 0 && $3 != $4) || $2 != $1 + 2) bad++; sum += $1; print }
             END { exit n != 5 || bad > 0 || sum < 20 }'
}
check linear_stages linear_stages

quick_stages_lower_the_loss_with_fewer_evaluations() {
    ff_run quick auto && stages "$work/quick.log" |
        awk '{ n++; if ($4 > $3 || ($1 == 0 && $3 != $4)) bad++; print } END { exit n < 2 || bad > 0 }' || return 1
    local linear quick
    linear=$(stages "$work/linear.log" | awk '{ n += $2 } END { print n }')
    quick=$(stages "$work/quick.log" | awk '{ n += $2 } END { print n }')
    echo "evaluations: linear $linear, quick $quick"
    [ "$quick" -lt "$linear" ]
}
check quick_stages_lower_the_loss_with_fewer_evaluations quick_stages_lower_the_loss_with_fewer_evaluations

# On rows of a token that training makes unlikely every stage fails; the run is then the same as
# without any.
failed_stages_change_nothing() {
    local config='{"seed": 3, "hyperparameters": {"n_epochs": 1, "batch_size": 8}, "fast_forward": {"enabled": true, "search": "linear"}, "training": {"learning_rate": 0.002, "lr_schedule": "constant", "warmup_ratio": 0}}'
    for _ in 1 2 3 4; do
        echo '{"input_ids": [1, 2, 2, 2, 2, 2, 2, 2]}'
    done >"$work/unlikely.jsonl"
    run_with "$config" --valid "$work/unlikely.jsonl" && stages "$work/end.log" |
        awk '{ print; if ($1 != 0 || $3 != $4 || $2 != 2) bad++ } END { exit NR != 2 || bad > 0 }' || return 1
    cp "$work/end/adapter/adapter_model.safetensors" "$work/with.safetensors"
    run_with "${config/\"enabled\": true/\"enabled\": false}" --valid "$work/unlikely.jsonl" &&
        cmp "$work/end/adapter/adapter_model.safetensors" "$work/with.safetensors"
}
check failed_stages_change_nothing failed_stages_change_nothing

published_search() {
    ff_run paper paper && grep '"fast_forward":{"tau"' "$work/paper.log" |
        awk '!/"loss_before":null/ { bad++ } END { exit NR != 5 || bad > 0 }'
}
check published_search published_search

# Without a validation file a tenth of the rows is set apart: 12 of 120.
rows_set_apart() {
    rm -rf "$work/end"
    echo '{"training": {"max_steps": 6}, "fast_forward": {"search": "linear"}}' >"$work/end.json"
    "$ffwd" train --model "$model" --train "$work/train.jsonl" --device cpu --dtype f32 --threads 1 \
        --config "$work/end.json" --out "$work/end" >"$work/end.log" &&
        grep -q '"training_rows":108,"fast_forward_rows":12,"validation_rows":0' "$work/end.log" &&
        [ "$(stages "$work/end.log" | wc -l)" = 1 ] && ! grep -q full_valid_loss "$work/end.log"
}
check rows_set_apart rows_set_apart

# flops: training 2 forwards of every step's rows; Fast Forward 1 forward of its rows per evaluation.
flops_add_up() {
    local total training ff
    total=$(grep '"total_steps":80' "$work/reference.log" | tail -n 1 | field flops)
    training=$(tail -n 1 "$work/reference.log" | field training)
    ff=$(tail -n 1 "$work/reference.log" | field fast_forward)
    awk -v t="$total" -v a="$training" -v b="$ff" 'BEGIN { exit !(a > 0 && b > 0 && t == a + b) }'
}
check flops_add_up flops_add_up

# Where stages find little, a run costs 5 % more at most: batches of 2, a rate that is high.
stages_cost_little_where_they_find_little() {
    run_with '{"hyperparameters": {"batch_size": 2, "n_epochs": 3}, "training": {"learning_rate": 0.019}}' || return 1
    local training ff
    training=$(last_line | field training)
    ff=$(last_line | field fast_forward)
    echo "training $training, stages $ff: $(stages "$work/end.log" | wc -l)"
    awk -v a="$training" -v b="$ff" 'BEGIN { exit !(b > 0 && b <= 0.05 * a) }' || return 1
    # the events and the CSV say the same share
    local said column
    said=$(grep -o '"flops_share":[0-9.e-]*' "$work/end.log" | tail -n 1 | cut -d: -f2)
    column=$(cut -d, -f12 "$work/end/adapter/metrics.csv" | grep -v '^$' | tail -n 1)
    close_to "$said" "$column" 0.000001 && awk -v s="$said" 'BEGIN { exit !(s > 0 && s < 1) }'
}
check stages_cost_little_where_they_find_little stages_cost_little_where_they_find_little

# Token 2 stands in no training row; its embedding becomes NaN, and so does every loss of a stage.
loss_that_is_not_finite() { # SEARCH
    local config='{"seed": 3, "hyperparameters": {"n_epochs": 1, "batch_size": 8}, "fast_forward": {"enabled": true, "search": "'$1'"}, "training": {"learning_rate": 0.002}}'
    local broken=$work/broken header
    rm -rf "$broken" && mkdir "$broken" && cp "$model"/*.json "$model/model.safetensors" "$broken" && chmod u+w "$broken"/* || return 1
    header=$(od -An -tu8 -N8 "$broken/model.safetensors") || return 1
    local start
    start=$(head -c $((8 + header)) "$broken/model.safetensors" | tail -c +9 |
        grep -o '"model.embed_tokens.weight":{[^}]*}' | grep -o '\[[0-9]*,[0-9]*\]}' | grep -o '[0-9]*' | head -n 1)
    printf '\000\000\300\177' | dd of="$broken/model.safetensors" bs=1 seek=$((8 + header + start + 2 * 32 * 4)) conv=notrunc status=none
    for _ in 1 2 3 4; do
        echo '{"input_ids": [1, 2, 2, 2, 2, 2, 2, 2]}'
    done >"$work/unlikely.jsonl"
    model=$broken run_with "$config" --valid "$work/unlikely.jsonl" || return 1
    grep -q '"level":"warn".*the loss was not finite at [0-9]* of [0-9]* points; the adapter is as it was before' "$work/end.log" &&
        grep -q '"fast_forward":{"tau":0,"evaluations":[0-9]*,"loss_before":null,"loss_after":null,' "$work/end.log" || return 1
    cp "$work/end/adapter/adapter_model.safetensors" "$work/with.safetensors"
    if [ "$1" = auto ]; then # which begins and ends with other adapters than a run without: one whose stages cost too much
        for _ in 1 2 3 4; do
            echo "{\"input_ids\": [1$(printf ', 3%.0s' {1..60})]}"
        done >"$work/unlikely.jsonl"
    else
        config=${config/\"enabled\": true/\"enabled\": false}
    fi
    model=$broken run_with "$config" --valid "$work/unlikely.jsonl" &&
        [ "$(stages "$work/end.log" | wc -l)" = 0 ] &&
        cmp "$work/end/adapter/adapter_model.safetensors" "$work/with.safetensors"
}
for search in auto linear paper; do
    check "loss_that_is_not_finite_$search" loss_that_is_not_finite "$search"
done

# On the rows and the model of the last case: no loss is finite, so none is a gain.
early_stopping_with_losses_that_are_not_finite() {
    model=$work/broken run_with '{"fast_forward": {"enabled": false}, "hyperparameters": {"batch_size": 4},
        "training": {"early_stopping": {"patience": 3}, "eval_interval": 2}}' --valid "$work/unlikely.jsonl" &&
        last_line | grep -q '"status":"succeeded","steps":6,'
}
check early_stopping_with_losses_that_are_not_finite early_stopping_with_losses_that_are_not_finite

# Fewer rows than asked for will do; a row without a trained token is left out.
few_rows_to_measure_on() {
    {
        head -n 2 "$work/valid.jsonl"
        echo '{"input_ids": [1, 2, 3], "labels": [-100, -100, -100]}'
    } >"$work/few.jsonl"
    run_with '{"hyperparameters": {"n_epochs": 1, "batch_size": 8}}' --valid "$work/few.jsonl" || return 1
    grep -q '"fast_forward_rows":2,' "$work/end.log" &&
        grep -q '"level":"warn".*without a token to train on' "$work/end.log" &&
        grep -q '"level":"warn".*All 2 validation rows are set apart for Fast Forward' "$work/end.log" &&
        [ "$(stages "$work/end.log" | wc -l)" -ge 1 ]
}
check few_rows_to_measure_on few_rows_to_measure_on

no_row_to_measure_on() {
    echo '{"input_ids": [1, 2, 3], "labels": [-100, -100, -100]}' >"$work/none.jsonl"
    status_is 20 run_with '{"hyperparameters": {"n_epochs": 1}}' --valid "$work/none.jsonl" &&
        last_line | grep -q '"param":"validation_file"'
}
check no_row_to_measure_on no_row_to_measure_on

# A loss that falls as far as a stage may look: it ends there, and says so.
stage_at_its_limit() {
    run_with '{"hyperparameters": {"n_epochs": 4, "batch_size": 8}, "fast_forward": {"max_steps": 5},
        "training": {"learning_rate": 0.00001, "lr_schedule": "constant"}}' || return 1
    stages "$work/end.log" | awk 'NR < 4 && $1 != 5 { bad++ } END { exit NR < 4 || bad > 0 }' &&
        grep -q '"level":"warn".*still fell at 5 simulated steps.*fast_forward.max_steps' "$work/end.log"
}
check stage_at_its_limit stage_at_its_limit

# Starts a factor of 100 apart end at nearly the same rate and loss; what was done is said.
raised_rate() { # START SEARCH: rate of step 20 and loss at the end
    run_with "{\"seed\": 3, \"hyperparameters\": {\"n_epochs\": 4, \"batch_size\": 8},
        \"fast_forward\": {\"search\": \"$2\", \"validation_examples\": 8}, \"training\": {\"learning_rate\": $1}}" || return 1
    echo "$(grep '"step":20,"total_steps"' "$work/end.log" | field learning_rate) $(grep -o '"full_valid_loss":[0-9.]*' "$work/end.log" | tail -n 1 | cut -d: -f2)"
}
the_start_hardly_matters() {
    local low middle
    low=$(raised_rate 0.00002 auto) && middle=$(raised_rate 0.002 auto) || return 1
    echo "rate and loss: $low, $middle"
    awk -v a="$low" -v b="$middle" 'BEGIN { split(a, x); split(b, y);
        exit !(x[1] > 0.002 && x[1] / y[1] < 2 && y[1] / x[1] < 2 && x[2] < 1.5 && x[2] / y[2] < 1.1 && y[2] / x[2] < 1.1) }' || return 1
    grep -q 'the learning rate is raised from 0.002 to 0.00[0-9]*","type":"message","data":{"step":1,"learning_rate":0.00' "$work/end.log" &&
        grep -q 'learning rate found by Fast Forward | 0.0[01]' "$work/end/adapter/README.md"
}
check the_start_hardly_matters the_start_hardly_matters

# A rate of 1 is 200 times the automatic one: the run begins at that, and says so.
a_rate_far_too_high_is_not_taken() {
    local high automatic
    automatic=$(raised_rate 0.005 auto) && ! grep -q 'times the automatic one' "$work/end.log" || return 1
    high=$(raised_rate 1 auto) || return 1
    echo "rate and loss: $high, $automatic"
    grep -q '"level":"warn","message":"The learning rate 1 is 200 times the automatic one; Fast Forward begins at that, 0.005"' "$work/end.log" &&
        awk -v a="$high" -v b="$automatic" 'BEGIN { split(a, x); split(b, y);
            exit !(x[1] >= 0.005 && x[1] <= 0.01 && x[2] > 0 && x[2] < 1.1 * y[2]) }'
}
check a_rate_far_too_high_is_not_taken a_rate_far_too_high_is_not_taken

linear_leaves_the_rate_alone() {
    local got
    got=$(raised_rate 0.0002 linear) || return 1
    echo "$got"
    close_to "${got% *}" 0.000142 0.00001 && ! grep -q 'learning rate is raised' "$work/end.log"
}
check linear_leaves_the_rate_alone linear_leaves_the_rate_alone

# A trained adapter goes on at a rate that is too high and near the automatic one, in batches of one
# row: a stage would cost too much, the loss of training tells. In file order it tells nothing.
a_loss_that_rises_halves_the_rate() {
    local config='{"seed": 3, "hyperparameters": {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 4}, "fast_forward": {"enabled": true, "validation_examples": 8}, "training": {"learning_rate": 0.02, "warmup_ratio": 0.5, "lr_schedule": "constant"}}'
    local with without start=$work/start
    rm -rf "$start" && run_with '{"seed": 3, "hyperparameters": {"n_epochs": 6, "batch_size": 8}, "training": {"learning_rate": 0.005}}' &&
        cp -r "$work/end/adapter" "$start" || return 1
    run_with "$config" --init-adapter "$start" && [ "$(stages "$work/end.log" | wc -l)" = 0 ] &&
        grep -q 'the loss of training rises; the learning rate is lowered from 0.0131 to 0.00656"' "$work/end.log" || return 1
    with=$(grep -o '"full_valid_loss":[0-9.]*' "$work/end.log" | tail -n 1 | cut -d: -f2)
    run_with "${config/true/false}" --init-adapter "$start" || return 1
    without=$(grep -o '"full_valid_loss":[0-9.]*' "$work/end.log" | tail -n 1 | cut -d: -f2)
    echo "loss: $with, at the rate as given $without"
    awk -v a="$with" -v b="$without" 'BEGIN { exit !(a > 0 && a < 0.6 * b) }' || return 1
    run_with "${config/\"lr_schedule\"/\"shuffle\": false, \"lr_schedule\"}" --init-adapter "$start" && ! grep -q 'learning rate is' "$work/end.log"
}
check a_loss_that_rises_halves_the_rate a_loss_that_rises_halves_the_rate

# While the rate is held, the average of the steps is measured and saved: it is neither the adapter
# that trains on nor something that training feels.
the_average_is_measured_and_saved() {
    local config='{"seed": 3, "hyperparameters": {"n_epochs": 2, "batch_size": 8}, "fast_forward": {"validation_examples": 4}, "training": {"learning_rate": 0.005, "lr_schedule": "constant", "eval_interval": 15, "checkpoint_interval": 15}}'
    local step said measured
    run_with "$config" || return 1
    tail -n +5 "$work/valid.jsonl" >"$work/rest.jsonl"
    for step in 15 30; do
        said=$(grep "\"step\":$step,\"total_steps\"" "$work/end.log" | field full_valid_loss)
        measured=$("$ffwd" eval --model "$model" --adapter "$work/end/checkpoints/step-$step" --data "$work/rest.jsonl" \
            --device cpu --dtype f32 | tail -n 1 | field loss)
        echo "step $step: said $said, measured $measured"
        close_to "$said" "$measured" 0.00001 || return 1
    done
    cp "$work/end/adapter/metrics.csv" "$work/often.csv"
    run_with "${config/\"eval_interval\": 15, \"checkpoint_interval\": 15/\"eval_interval\": 30}" &&
        cmp <(cut -d, -f2 "$work/often.csv") <(cut -d, -f2 "$work/end/adapter/metrics.csv")
}
check the_average_is_measured_and_saved the_average_is_measured_and_saved

# Bytes other than 0 in a tensor of the resume point after step 2, the first stage's.
bytes_set() { # TENSOR
    local file=$work/end/resume/step-2/tensors.safetensors header span
    header=$(od -An -tu8 -N8 "$file") || return 1
    span=$(head -c $((8 + header)) "$file" | tail -c +9 | grep -o "\"$1\":{[^}]*}" |
        grep -o '"data_offsets":\[[0-9, ]*' | grep -o '[0-9]*') || return 1
    # shellcheck disable=SC2086
    set -- $span
    tail -c +$((9 + header + $1)) "$file" | head -c $(($2 - $1)) | tr -d '\000' | wc -c
}

# A jump that is kept leaves the second moment alone; with `auto` the first is dropped. Rows short
# enough for a stage in a run of six steps.
momentum_after_a_jump() { # SEARCH
    local m v tau
    for _ in 1 2 3 4; do
        echo '{"input_ids": [1, 13, 49, 41]}'
    done >"$work/short.jsonl"
    run_with "{\"seed\": 3, \"hyperparameters\": {\"batch_size\": 8},
        \"fast_forward\": {\"search\": \"$1\", \"interval\": 2, \"validation_examples\": 4},
        \"training\": {\"learning_rate\": 0.0003, \"lr_schedule\": \"constant\", \"max_steps\": 6,
            \"checkpoint_interval\": 2}}" --valid "$work/short.jsonl" || return 1
    tau=$(grep -o '"step":2,"fast_forward":{"tau":[0-9]*' "$work/end.log" | grep -o '[0-9]*$')
    m=$(bytes_set exp_avg) && v=$(bytes_set exp_avg_sq) || return 1
    echo "tau $tau, bytes of the moments: $m, $v"
    [ "$tau" -gt 0 ] && [ "$v" -gt 0 ] &&
        if [ "$1" = auto ]; then [ "$m" = 0 ]; else [ "$m" -gt 0 ]; fi
}
for search in auto linear paper; do
    check "momentum_after_a_jump_$search" momentum_after_a_jump "$search"
done
