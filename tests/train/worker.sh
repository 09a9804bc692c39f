# `ffwd worker` driven as the server drives it. Sourced by run.sh.
# shellcheck shell=bash

start_worker() {
    rm -f "$work/to" && mkfifo "$work/to"
    "$ffwd" worker --device cpu --threads 1 --dtype f32 <"$work/to" >"$work/from" 2>"$work/worker.err" &
    worker=$!
    exec 8>"$work/to"
}
send() { # TYPE JOB ATTEMPT [OUT]
    case $1 in
    run)
        printf '{"type":"run","job":"%s","attempt":%d,"model":"%s","model_name":"%s","train":"%s","valid":"%s","out":"%s","init_adapter":null,"request":%s}\n' \
            "$2" "$3" "$model" "$model" "$work/train.jsonl" "$work/valid.jsonl" "$4" "$(tr -d '\n' <"$work/config.json")" >&8
        ;;
    *) printf '{"type":"%s","job":"%s","attempt":%d}\n' "$1" "$2" "$3" >&8 ;;
    esac
}
wait_for() { # PATTERN [COUNT]
    local i
    for ((i = 0; i < 1000; i++)); do
        [ "$(grep -c "$1" "$work/from")" -ge "${2:-1}" ] && return 0
        sleep 0.02
    done
    echo "no $1 from the worker"
    tail -n 3 "$work/from"
    return 1
}
end_worker() { # WANTED EXIT STATUS
    exec 8>&-
    wait "$worker"
    local got=$?
    [ "$got" = "$1" ] || echo "the worker ended with $got, not $1"
    [ "$got" = "$1" ]
}

two_jobs_one_worker() {
    start_worker
    wait_for '"type":"ready","device":{"kind":"cpu"' || return 1
    send run job-1 1 "$work/worker-1"
    send run job-9 1 "$work/worker-9" # busy: refused
    wait_for '"type":"done","job":"job-1","attempt":1,"exit":0,"status":"succeeded","error":null,"result":{"status":"succeeded","steps":80' || return 1
    send run job-2 1 "$work/worker-2"
    wait_for '"type":"done","job":"job-2"' || return 1
    echo '{"type":"exit"}' >&8
    wait "$worker" || return 1
    exec 8>&-
    grep -q '"type":"resolved","job":"job-1","attempt":1,"resolved":{"hyperparameters":{"n_epochs":2,"batch_size":3,' "$work/from" || return 1
    [ "$(grep -c '"type":"event","job":"job-1","attempt":1,"event":{"object":"fine_tuning.job.event".*"total_steps":80' "$work/from")" -ge 80 ] || return 1
    [ ! -e "$work/worker-9" ] && same_adapter "$work/reference" "$work/worker-1" && same_adapter "$work/reference" "$work/worker-2"
}
check worker/two_jobs two_jobs_one_worker

# A folder that was replaced by a rename between two jobs is loaded anew.
a_replaced_model_is_loaded_again() {
    local base=$model replaced=$work/replaced model=$work/replaced size
    rm -rf "$replaced" && cp -r "$base" "$replaced" && start_worker
    wait_for '"type":"ready"' || return 1
    send run job-20 1 "$work/worker-20"
    wait_for '"type":"done","job":"job-20","attempt":1,"exit":0' || return 1
    rm -rf "$work/next" && cp -r "$base" "$work/next" && chmod u+w "$work/next/model.safetensors" || return 1
    size=$(stat -c %s "$work/next/model.safetensors")
    head -c 4096 /dev/zero | dd of="$work/next/model.safetensors" bs=1 seek=$((size - 4096)) conv=notrunc status=none
    mv "$replaced" "$work/previous" && mv "$work/next" "$replaced" || return 1
    send run job-21 1 "$work/worker-21"
    wait_for '"type":"done","job":"job-21","attempt":1,"exit":0' || return 1
    echo '{"type":"exit"}' >&8
    wait "$worker" || return 1
    exec 8>&-
    train "$work/alone" >/dev/null && ! cmp -s "$work/worker-20/adapter/adapter_model.safetensors" "$work/worker-21/adapter/adapter_model.safetensors" &&
        cmp "$work/alone/adapter/adapter_model.safetensors" "$work/worker-21/adapter/adapter_model.safetensors"
}
check worker/replaced_model a_replaced_model_is_loaded_again

stop_then_resume_then_cancel() {
    start_worker
    send run job-3 1 "$work/worker-3"
    wait_for '"step":7,"total_steps"' || return 1
    send stop job-3 0 # an older attempt: refused
    send stop job-3 1
    wait_for '"type":"done","job":"job-3","attempt":1,"exit":11,"status":"stopped","error":null,"result":null' || return 1
    send run job-3 2 "$work/worker-3"
    wait_for '"type":"done","job":"job-3","attempt":2,"exit":0' || return 1
    send run job-4 1 "$work/worker-4"
    send cancel job-4 1
    wait_for '"type":"done","job":"job-4","attempt":1,"exit":10,"status":"cancelled"' || return 1
    end_worker 11 || return 1
    [ ! -e "$work/worker-4/adapter" ] && same_adapter "$work/reference" "$work/worker-3"
}
check worker/stop_resume_cancel stop_then_resume_then_cancel

server_gone() {
    start_worker
    send run job-5 1 "$work/worker-5"
    wait_for '"step":5,"total_steps"' || return 1
    end_worker 11 || return 1
    [ ! -e "$work/worker-5/adapter" ] && [ -n "$(find "$work/worker-5/resume" -name "step-*")" ] &&
        train "$work/worker-5" --resume >/dev/null && same_adapter "$work/reference" "$work/worker-5"
}
check worker/server_gone server_gone

bad_job() {
    start_worker
    printf 'not json\n{"type":"what"}\n' >&8
    printf '{"type":"run","job":"job-6","attempt":1,"model":"%s","train":"%s","valid":null,"out":"%s","request":{"lora":{"rank":0}}}\n' \
        "$model" "$work/train.jsonl" "$work/worker-6" >&8
    wait_for '"type":"done","job":"job-6","attempt":1,"exit":20,"status":"failed","error":{"code":"bad_input","message":".*","param":"lora.rank"},"result":null' || return 1
    printf '{"type":"run","job":"job-7","attempt":1,"model":"/nowhere","train":"x","valid":null,"out":"%s","request":{}}\n' "$work/worker-7" >&8
    wait_for '"type":"done","job":"job-7","attempt":1,"exit":20,"status":"failed"' || return 1
    send run job-8 1 "$work/worker-8"
    wait_for '"type":"done","job":"job-8","attempt":1,"exit":0' || return 1
    echo '{"type":"exit"}' >&8
    wait "$worker"
}
check worker/bad_job bad_job

pause_then_resume() {
    start_worker
    send run job-10 1 "$work/worker-10"
    wait_for '"step":7,"total_steps"' || return 1
    send pause job-10 1
    wait_for '"type":"done","job":"job-10","attempt":1,"exit":11,"status":"stopped","error":null,"result":null' || return 1
    local step
    step=$(grep -o '"job":"job-10".*"step":[0-9]*,"total_steps"' "$work/from" | tail -n 1 | sed 's/.*"step":\([0-9]*\),.*/\1/')
    [ -e "$work/worker-10/checkpoints/step-$step/adapter_model.safetensors" ] || return 1
    [ -e "$work/worker-10/resume/step-$step/manifest.json" ] || return 1
    send run job-10 2 "$work/worker-10"
    wait_for '"type":"done","job":"job-10","attempt":2,"exit":0' || return 1
    send run job-11 1 "$work/worker-11"
    send stop job-11 1
    send pause job-11 1 # comes too late to replace the stop
    wait_for '"type":"done","job":"job-11","attempt":1,"exit":11' || return 1
    [ ! -e "$work/worker-11/checkpoints" ] || return 1
    end_worker 11 || return 1
    same_adapter "$work/reference" "$work/worker-10"
}
check worker/pause_resume pause_then_resume
