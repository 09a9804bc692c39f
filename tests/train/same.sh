# The same bytes from the same job; what a run prints and leaves. Sourced by run.sh.
# shellcheck shell=bash

same_again() {
    train "$work/again" >"$work/again.log" && same_adapter "$work/reference" "$work/again"
}
check same_again same_again

same_with_two_threads() {
    train "$work/threads" --threads 2 >/dev/null && same_adapter "$work/reference" "$work/threads"
}
check same_with_two_threads same_with_two_threads

another_seed_gives_another_adapter() {
    sed 's/"seed": 7/"seed": 8/' "$work/config.json" >"$work/seed.json"
    train "$work/seed" --config "$work/seed.json" >/dev/null &&
        ! cmp -s "$work/reference/adapter/adapter_model.safetensors" \
            "$work/seed/adapter/adapter_model.safetensors"
}
check another_seed_gives_another_adapter another_seed_gives_another_adapter

# Losses of every step with one row a pass and with all rows of a step in one pass: the run with the
# other seed, since how far rounding alone carries them apart differs from seed to seed.
packing_changes_nothing() {
    sed 's/"learning_rate"/"packing": false, "learning_rate"/' "$work/seed.json" \
        >"$work/unpacked.json"
    train "$work/unpacked" --config "$work/unpacked.json" >/dev/null || return 1
    paste -d, <(cut -d, -f2 "$work/seed/adapter/metrics.csv") \
        <(cut -d, -f2 "$work/unpacked/adapter/metrics.csv") |
        awk -F, 'NR > 1 { d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5) bad++; n++ }
                 END { print bad + 0, "of", n, "steps differ"; exit bad > 0 || n != 80 }'
}
check packing_changes_nothing packing_changes_nothing

# 80 steps: one event each, in order, with the contract's keys; stages after step 1 and multiples of
# 6; a warm-up of three steps that moves at once
events_are_complete() {
    local log=$work/reference.log
    [ "$(grep -c '"total_steps":80,"train_loss"' "$log")" = 80 ] || return 1
    [ "$(grep -o '^{"id":"ftevent-[0-9a-f]*"' "$log" | sort -u | wc -l)" = "$(wc -l <"$log")" ] || return 1
    [ "$(grep -c '"fast_forward":{"tau":' "$log")" -ge 2 ] || return 1
    grep -o '"step":[0-9]*,"fast_forward":{"tau"' "$log" | tr -cd '0-9\n' |
        awk '$1 % 6 && $1 != 1 { bad++ } END { exit bad > 0 }' || return 1
    grep -v '"object":"fine_tuning.job.event","created_at":[0-9]*,"level":"\(info\|warn\)","message":"' "$log" &&
        return 1
    grep -q '"step":1,"total_steps":80,"train_loss":[0-9.]*,"train_mean_token_accuracy":[0-9.]*,"learning_rate":0.001,"grad_norm":[0-9.]*,"tokens":[0-9]*,"seconds":[0-9.]*,"flops":[0-9.]*,"valid_loss":[0-9.]*,"valid_mean_token_accuracy":[0-9.]*}' "$log" || return 1
    [ "$(grep -c '"full_valid_loss":.*"type"\|"type":"metrics".*"full_valid_loss"' "$log")" = 4 ] || return 1
    tail -n 1 "$log" | grep -q '"type":"message","data":{"status":"succeeded","steps":80,"trained_tokens":[0-9]*,"seconds":[0-9.]*,"flops":{"training":[0-9.]*,"fast_forward":[0-9.]*},"adapter":"'
}
check events_are_complete events_are_complete

folder_is_complete() {
    local out=$work/reference
    [ "$(cd "$out/adapter" && echo *)" = "README.md adapter_config.json adapter_model.safetensors metrics.csv" ] || return 1
    [ "$(cd "$out/checkpoints" && echo step-*)" = "step-10 step-20 step-30 step-40 step-50 step-60 step-70 step-80" ] || return 1
    [ "$(cd "$out/resume" && echo step-*)" = "step-60 step-70 step-80" ] || return 1
    cmp "$out/checkpoints/step-80/adapter_model.safetensors" "$out/adapter/adapter_model.safetensors" &&
        grep -q "$(sha256sum <"$work/train.jsonl" | cut -d' ' -f1)" "$out/adapter/README.md"
}
check folder_is_complete folder_is_complete

metrics_file_has_a_row_for_each_step() {
    local csv=$work/reference/adapter/metrics.csv
    [ "$(head -n 1 "$csv")" = "step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,full_valid_loss,full_valid_mean_token_accuracy,ff_tau,ff_evaluations,ff_loss_before,ff_loss_after,ff_flops_share,learning_rate,grad_norm,tokens,flops" ] &&
        awk -F, 'NR > 1 && ($1 != NR - 1 || NF != 16) { exit 1 } END { exit NR != 81 }' "$csv"
}
check metrics_file_has_a_row_for_each_step metrics_file_has_a_row_for_each_step

plot_shows_each_stage() {
    local svg stages
    svg=$("$ffwd" plot "$work/reference") || return 1
    stages=$(tail -n +2 "$work/reference/adapter/metrics.csv" | cut -d, -f8 | grep -c .)
    [ "$(grep -c '<circle class="s"' <<<"$svg")" = "$stages" ] &&
        grep -q ">80 steps; Fast Forward: $stages stages" <<<"$svg"
}
check plot_shows_each_stage plot_shows_each_stage

training_lowers_the_loss() {
    grep -o '"full_valid_loss":[0-9.]*' "$work/reference.log" | cut -d: -f2 |
        awk 'NR == 1 { first = $1 } { last = $1 } END { print first, last; exit !(last < first - 0.1 && last < 3.5) }'
}
check training_lowers_the_loss training_lowers_the_loss
