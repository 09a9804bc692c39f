# A run that is killed or stopped and resumed gives the same bytes. Sourced by run.sh.
# shellcheck shell=bash

# Kills runs with SIGKILL after 10 to 250 ms, 50 times in all; each run is resumed until it ends.
killed_fifty_times() {
    local kills=0 runs=0 out pid
    while [ "$kills" -lt 50 ]; do
        out=$work/killed-$runs
        : >"$work/killed.log"
        while [ ! -d "$out/adapter" ]; do
            spawn "$out" "$work/killed.log" --resume
            if [ "$kills" -lt 50 ]; then
                sleep "0.$(printf %03d $((10 + RANDOM % 240)))"
                kill -9 "$pid" 2>/dev/null && kills=$((kills + 1))
            fi
            wait "$pid"
        done 2>/dev/null
        same_adapter "$work/reference" "$out" || return 1
        # every step was reported, with the same loss each time
        [ "$(grep -o '"step":[0-9]*,"total_steps":80,"train_loss":[0-9.]*' "$work/killed.log" | sort -u | wc -l)" = 80 ] || return 1
        rm -rf "$out"
        runs=$((runs + 1))
    done
    echo "$kills kills in $runs runs"
}
RANDOM=1
check killed_fifty_times killed_fifty_times

# Until the run has reported N steps more, or is done.
await_steps() { # OUT LOG N
    local want=$(($(grep -c '"train_loss"' "$2") + $3)) tries=0
    while [ "$(grep -c '"train_loss"' "$2")" -lt "$want" ] && [ ! -d "$1/adapter" ] && [ "$tries" -lt 3000 ]; do
        sleep 0.005
        tries=$((tries + 1))
    done
}

# SIGTERM: a resume point, 11, and a last line that says so.
stopped_and_resumed() {
    local out=$work/stopped pid stops=0 code
    : >"$work/stopped.log"
    while [ ! -d "$out/adapter" ] && [ "$stops" -lt 200 ]; do
        spawn "$out" "$work/stopped.log" --resume
        await_steps "$out" "$work/stopped.log" $((1 + RANDOM % 12))
        kill -TERM "$pid"
        wait "$pid"
        code=$?
        case $code in
        11)
            tail -n 1 "$work/stopped.log" | grep -q '"data":{"status":"stopped"}' || return 1
            stops=$((stops + 1))
            ;;
        0 | 143) ;; # it was done, or had not begun to catch signals
        *)
            echo "ended with $code"
            return 1
            ;;
        esac
    done 2>/dev/null
    echo "$stops stops"
    [ "$stops" -ge 2 ] && same_adapter "$work/reference" "$out"
}
check stopped_and_resumed stopped_and_resumed

# SIGTERM inside a stage (phase 1) and inside an evaluation (phase 3): each takes a second here, a
# step milliseconds. The part is done again from its beginning, and the run ends as one left alone.
stopped_inside() { # PHASE
    local out=$work/inside pid tries=0 code
    cat >"$work/inside.json" <<END
{"seed": 5, "hyperparameters": {"n_epochs": 1, "batch_size": 4},
 "fast_forward": {"search": "linear", "max_steps": $([ "$1" = 1 ] && echo 500 || echo 1), "validation_examples": 32},
 "training": {"learning_rate": 1e-5, "lr_schedule": "constant", "warmup_ratio": 0, "max_steps": 7, "eval_interval": 6}}
END
    if [ "$1" = 1 ]; then make_rows 60 2; else make_rows 12000 2; fi >"$work/inside.jsonl"
    rm -rf "$out-alone"
    train "$out-alone" --config "$work/inside.json" --valid "$work/inside.jsonl" >/dev/null || return 1
    while [ "$tries" -lt 20 ]; do
        rm -rf "$out"
        : >"$work/inside.log"
        spawn "$out" "$work/inside.log" --config "$work/inside.json" --valid "$work/inside.jsonl"
        await_steps "$out" "$work/inside.log" 5
        sleep "0.$((1 + tries % 5))"
        kill -TERM "$pid"
        wait "$pid"
        code=$?
        tries=$((tries + 1))
        [ "$code" = 11 ] && grep -q "\"phase\": $1," "$out"/resume/step-6/state.json && break
    done 2>/dev/null
    echo "try $tries, exit code $code"
    grep -q "\"phase\": $1," "$out"/resume/step-6/state.json &&
        train "$out" --resume --config "$work/inside.json" --valid "$work/inside.jsonl" >/dev/null &&
        same_adapter "$out-alone" "$out"
}
check stopped_inside_a_stage stopped_inside 1
check stopped_inside_an_evaluation stopped_inside 3

resume_of_a_finished_job_is_done_at_once() {
    train "$work/reference" --resume >"$work/done.log" &&
        [ "$(wc -l <"$work/done.log")" = 1 ] &&
        grep -q '"data":{"status":"succeeded","steps":80,' "$work/done.log"
}
check resume_of_a_finished_job_is_done_at_once resume_of_a_finished_job_is_done_at_once

# Leaves OUT with resume points of steps 60, 70 and 80 and without the adapter.
unfinished() { # OUT
    cp -r "$work/reference" "$1" && rm -rf "$1/adapter" "$1/result.json"
}

damaged_point_is_passed_over() {
    unfinished "$work/damaged" &&
        truncate -s 1000 "$work/damaged/resume/step-80/tensors.safetensors" &&
        rm "$work/damaged/resume/step-70/manifest.json" &&
        mkdir "$work/damaged/resume/tmp-step-90" &&
        train "$work/damaged" --resume >"$work/damaged.log" &&
        grep -q '"level":"warn","message":"2 incomplete resume points' "$work/damaged.log" &&
        grep -q 'resumed after step 60' "$work/damaged.log" &&
        ! grep -q '"step":60,"total_steps"' "$work/damaged.log" &&
        grep -q '"step":61,"total_steps"' "$work/damaged.log" &&
        same_adapter "$work/reference" "$work/damaged"
}
check damaged_point_is_passed_over damaged_point_is_passed_over

changed_data_is_refused() {
    unfinished "$work/changed" && cp "$work/train.jsonl" "$work/longer.jsonl" &&
        head -n 1 "$work/train.jsonl" >>"$work/longer.jsonl" &&
        status_is 20 train "$work/changed" --resume --train "$work/longer.jsonl" >"$work/changed.log" &&
        grep -q '"status":"failed","error":{"code":"conflict","message":"cannot go on from step 80.*training_file was' "$work/changed.log"
}
check changed_data_is_refused changed_data_is_refused

changed_setting_is_refused() {
    unfinished "$work/setting" &&
        sed 's/"learning_rate"/"max_grad_norm": 0.5, "learning_rate"/' "$work/config.json" >"$work/setting.json" &&
        status_is 20 train "$work/setting" --resume --config "$work/setting.json" >"$work/setting.log" &&
        grep -q 'training.max_grad_norm was 1.0 and is 0.5.*"param":"training.max_grad_norm"' "$work/setting.log"
}
check changed_setting_is_refused changed_setting_is_refused

changed_model_is_refused() {
    unfinished "$work/model-out" && cp -r "$model" "$work/model" && chmod -R u+w "$work/model" &&
        printf 'x' | dd of="$work/model/model.safetensors" bs=1 seek=20000 conv=notrunc 2>/dev/null &&
        status_is 20 train "$work/model-out" --resume --model "$work/model" >"$work/changed.log" &&
        grep -q '"param":"model"' "$work/changed.log"
}
check changed_model_is_refused changed_model_is_refused

# A full disk ends with 30 and leaves the resume points; with room again, the job ends as ever.
full_disk() {
    unfinished "$work/full" && rm -rf "$work/full/resume/step-80" "$work/full/resume/step-70" &&
        (ulimit -f 40 && status_is 30 train "$work/full" --resume) >"$work/full.log" 2>"$work/full.err" || return 1
    tail -n 1 "$work/full.log" | grep -q '"status":"failed","error":{"code":"\(io\|disk_full\)"' || return 1
    [ -d "$work/full/resume/step-60" ] && [ -z "$(find "$work/full/resume" -name "tmp-*")" ] &&
        train "$work/full" --resume >/dev/null && same_adapter "$work/reference" "$work/full"
}
check full_disk full_disk

no_space_left() {
    unshare -rm bash -c '
        mount -t tmpfs -o size=200k none "$1" && shift && "$@"; code=$?
        [ "$code" = 30 ] && ls -d "$(dirname "${@: -1}")"/out/resume/step-*' - "$work/tmpfs" "$ffwd" train --model "$model" --train "$work/train.jsonl" \
        --device cpu --dtype f32 --threads 1 --config "$work/config.json" --out "$work/tmpfs/out" >"$work/tmpfs.log" 2>&1 &&
        grep -q '"code":"disk_full"' "$work/tmpfs.log"
}
mkdir "$work/tmpfs"
if unshare -rm mount -t tmpfs -o size=200k none "$work/tmpfs" 2>/dev/null; then
    check no_space_left no_space_left
else
    skip no_space_left "a user namespace with mounts is not allowed here"
fi

closed_output_stops_cleanly() {
    train "$work/closed" --resume 2>"$work/closed.err" | head -n 3 >/dev/null
    [ "${PIPESTATUS[0]}" = 11 ] && train "$work/closed" --resume >/dev/null &&
        same_adapter "$work/reference" "$work/closed"
}
check closed_output_stops_cleanly closed_output_stops_cleanly

two_processes_do_not_share_a_folder() {
    mkdir "$work/shared" && exec 9<"$work/shared" && flock -x 9 &&
        status_is 20 train "$work/shared" --resume >"$work/shared.log" && exec 9<&- &&
        grep -q 'another process is training' "$work/shared.log"
}
check two_processes_do_not_share_a_folder two_processes_do_not_share_a_folder
