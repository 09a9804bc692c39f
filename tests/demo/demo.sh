#!/bin/bash
# What `make demo` runs: server up, sample data uploaded, a job trained with ffwd's own choices and
# followed live, its adapter and plot fetched into demo-out/, the adapter measured on rows nobody
# trained on; then two jobs at a low learning rate, with and without Fast Forward, so that what it
# saves there is measured and not claimed.
#
# usage: tests/demo/demo.sh BUILD_DIR [OUT_DIR]
#   DEMO_COMPARE=0   leave out the last two jobs;  1: run them even where the first was slow
# Needs bash, curl, jq. Exit status 0 only if every step worked and the loss fell.
set -euo pipefail
build=$(realpath "${1:?usage: tests/demo/demo.sh BUILD_DIR [OUT_DIR]}")
out=$(realpath -m "${2:-demo-out}")
cd "$(dirname "$0")/../.."
base=ffwd-tiny
model=examples/models/$base
work=$(mktemp -d "${TMPDIR:-/tmp}/ffwd-demo.XXXXXX")
server=""

finish() {
    local status=$?
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [ $status != 0 ] && [ -s "$work/server.log" ]; then
        echo "--- end of the server's log" >&2
        tail -n 20 "$work/server.log" >&2
    fi
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

die() {
    echo "demo: $*" >&2
    exit 1
}

say() { printf '\n== %s\n' "$*"; }

# ---- server ---------------------------------------------------------------------------------

start_server() { # on a free port: one that is taken ends the server at once, another is tried
    local port
    for _ in 1 2 3 4 5 6 7 8; do
        port=$((20000 + RANDOM % 20000))
        "$build/ffwd-server" --data "$work/data" --models examples/models --device cpu \
            --listen "127.0.0.1:$port" >"$work/server.log" 2>&1 &
        server=$!
        url=http://127.0.0.1:$port
        for _ in $(seq 150); do
            curl -sf -o /dev/null "$url/readyz" && return 0
            kill -0 "$server" 2>/dev/null || break
            sleep 0.1
        done
        kill -0 "$server" 2>/dev/null && die "the server is not ready after 15 seconds"
        server=""
        grep -qi 'in use' "$work/server.log" || break
    done
    die "the server did not start"
}

call() { # CURL_ARGUMENTS...: body on stdout; an error answer is shown and fails
    local code
    code=$(curl -sS -o "$work/answer" -w '%{http_code}' "$@") || return 1
    if [ "${code:0:1}" != 2 ]; then
        echo "demo: HTTP $code: $(cat "$work/answer")" >&2
        return 1
    fi
    cat "$work/answer"
}

upload() { # FILE -> file id
    call "$url/v1/files" -F purpose=fine-tune -F "file=@$1" | jq -er .id
}

# ---- a job ----------------------------------------------------------------------------------

create_job() { # VALIDATION_ID SETTINGS -> job id
    jq -n --arg train "$train_id" --arg valid "$1" --arg model "$base" --argjson settings "$2" '{
            model: $model, training_file: $train, validation_file: $valid, suffix: "orders", seed: 1
        } + $settings' >"$work/body.json"
    call "$url/v1/fine_tuning/jobs" -H 'Content-Type: application/json' -d "@$work/body.json" | jq -er .id
}

# One line for a message, a Fast Forward stage, an evaluation; the optimizer steps between are left out.
progress='
    def n: (. * 10000 | round) / 10000;
    if .type == "message" then "  " + .message
    elif .data.fast_forward then .data as $d | $d.fast_forward |
        "  step \($d.step): fast forward, \(.tau) simulated steps, loss \(.loss_before | n) -> \(.loss_after | n) (\(.evaluations) evaluations)"
    elif .data.full_valid_loss then .data |
        "  step \(.step): validation loss \(.full_valid_loss | n)"
    else empty end'

follow() { # JOB_ID EVENTS_FILE: prints live, returns when the stream says [DONE]
    curl -sSN --fail-with-body "$url/v1/fine_tuning/jobs/$1/events?stream=true" |
        tee "$work/stream" | sed -un 's/^data: {/{/p' | tee "$2" | jq --unbuffered -r "$progress"
    grep -q '^data: \[DONE\]' "$work/stream" || die "the event stream broke off"
    local status
    status=$(call "$url/v1/fine_tuning/jobs/$1" | jq -r .status)
    [ "$status" = succeeded ] || die "job $1 is $status: $(jq -c .error "$work/answer")"
}

# ---- measuring ------------------------------------------------------------------------------

loss() { # ffwd eval's arguments -> loss over rows neither trained on nor seen by Fast Forward
    "$build/ffwd" eval --model "$model" --device cpu --data "$work/held-out.jsonl" "$@" |
        jq -er 'select(.total) | .total.loss'
}

# How many of the first 16 answers the model gives word for word: each token of the right answer
# is the most likely one after the question and the tokens before it.
exact() { # [--adapter DIR]
    head -n 16 "$work/held-out.jsonl" >"$work/some.jsonl"
    "$build/ffwd" tokenize --model "$model" --chat <"$work/some.jsonl" >"$work/wanted"
    "$build/ffwd" eval --model "$model" --device cpu --dtype f32 --data "$work/some.jsonl" --logits 96 "$@" |
        jq -c 'select(.logits) | .logits | map(index(max))' >"$work/said"
    jq -n --slurpfile wanted "$work/wanted" --slurpfile said "$work/said" '
        [range($wanted | length) as $row | $wanted[$row] as $w | $said[$row] as $s |
         [range($w.ids | length) | select($w.mask[.] == 1 and $s[. - 1] != $w.ids[.])] |
         select(length == 0)] | length'
}

# The model's most likely answer, token by token. A guess (at first the right answer) is put behind
# the question and scored in one pass: as far as it is what the model itself says it stands, and the
# first difference is replaced by the model's token. So an answer takes a pass for each of its
# tokens that is not the right one, and 24 passes at most.
answer() { # ROW [--adapter DIR]
    local row=$1 ids prompt guess said stop scored ended=false
    shift
    ids=$("$build/ffwd" tokenize --model "$model" --chat <<<"$row")
    prompt=$(jq -c '.mask as $m | .ids[:($m | index(1))]' <<<"$ids")
    guess=$(jq -c '[.ids, .mask] | transpose | map(select(.[1] == 1)[0])' <<<"$ids")
    stop=$(jq '.[-1]' <<<"$guess")
    for _ in $(seq 24); do
        jq -nc "($prompt + $guess) | {input_ids: ., labels: .}" >"$work/guess.jsonl"
        scored=$("$build/ffwd" eval --model "$model" --device cpu --dtype f32 --data "$work/guess.jsonl" \
            --logits "$(jq -n "$prompt + $guess | length")" "$@" |
            jq -c --argjson p "$prompt" --argjson g "$guess" --argjson stop "$stop" '
                select(.logits) | .logits[($p | length) - 1:] | map(index(max)) as $said |
                ([range($g | length) | select($said[.] != $g[.])][0] // ($g | length)) as $same |
                $g[:$same] | if .[-1] == $stop then . else . + [$said[$same]] end |
                ., . + $g[length:], .[-1] == $stop')
        { read -r said && read -r guess && read -r ended; } <<<"$scored"
        [ "$ended" = true ] && break
    done
    jq -c --argjson stop "$stop" 'map(select(. != $stop))' <<<"$said" |
        "$build/ffwd" tokenize --model "$model" --decode | jq -j .
    if [ "$ended" = true ]; then echo; else echo " ..."; fi
}

# ---- the demo -------------------------------------------------------------------------------

for program in curl jq; do
    command -v $program >/dev/null || die "$program is missing"
done
# Fast Forward measures on the first 8 rows of the validation file; every loss shown here is of the rest.
tail -n +9 examples/data/orders-valid.jsonl >"$work/held-out.jsonl"

say "starting ffwd-server on this machine, models from examples/models"
start_server
echo "  $url, ready"

say "uploading the sample data"
train_id=$(upload examples/data/orders-train.jsonl)
valid_id=$(upload examples/data/orders-valid.jsonl)
echo "  $(wc -l <examples/data/orders-train.jsonl) rows to train on: $train_id"
echo "  $(wc -l <examples/data/orders-valid.jsonl) rows to validate: $valid_id"
before=$(loss)

say "fine-tuning $base with Fast Forward, learning rate and schedule left to ffwd"
job=$(create_job "$valid_id" "$(jq -n '{
    method: {type: "supervised", supervised: {hyperparameters: {n_epochs: 6, batch_size: 16}}},
    fast_forward: {validation_examples: 8}, training: {eval_interval: 25}}')")
follow "$job" "$work/job.jsonl"

say "fetching the adapter, and the plot of the job"
rm -rf "$out"
mkdir -p "$out"
curl -sS --fail-with-body -o "$work/adapter.tar" "$url/v1/fine_tuning/jobs/$job/adapter"
tar -xf "$work/adapter.tar" -C "$out"
curl -sS --fail-with-body -o "$out/plot.svg" "$url/v1/fine_tuning/jobs/$job/plot"
adapter=$(dirname "$(find "$out" -name adapter_model.safetensors | head -n 1)")
[ -f "$adapter/adapter_config.json" ] || die "the archive holds no adapter"
(cd "$out" && find . -type f -printf '  %p, %s bytes\n' | sed 's|\./||' | sort)
after=$(loss --adapter "$adapter")

say "one question of the held-out rows, answered by each model (the most likely token, again and again)"
row=$(head -n 1 "$work/held-out.jsonl")
echo "  asked     $(jq -r '.messages[0].content' <<<"$row")"
echo "  before    $(answer "$row" | tr '\n' ' ')"
echo "  after     $(answer "$row" --adapter "$adapter")"
echo "  expected  $(jq -r '.messages[1].content' <<<"$row")"
echo "  word for word right, of 16 questions: $(exact) before, $(exact --adapter "$adapter") after"

# The regime of the paper: a constant rate far below the best one. The lower of the two losses need
# not be reached by both: measured is the cost of the first evaluation at which each job stood at or
# below the higher of the two final losses.
low_rate() { # FAST_FORWARD(true|false)
    jq -n --argjson fast "$1" '{
        method: {type: "supervised", supervised: {hyperparameters: {n_epochs: 6, batch_size: 32}}},
        fast_forward: {enabled: $fast, validation_examples: 8},
        training: {learning_rate: 3e-4, lr_schedule: "constant", eval_interval: 10}}'
}

compare() {
    say "what Fast Forward saves at a low learning rate (3e-4, constant, as in the paper): with it"
    job=$(create_job "$valid_id" "$(low_rate true)")
    follow "$job" "$work/fast.jsonl"
    say "the same without it"
    tail_id=$(upload "$work/held-out.jsonl")
    job=$(create_job "$tail_id" "$(low_rate false)")
    follow "$job" "$work/plain.jsonl"
    jq -nr --slurpfile fast "$work/fast.jsonl" --slurpfile plain "$work/plain.jsonl" '
        def n: (. * 10000 | round) / 10000;
        def seen: map(.data | select(.full_valid_loss));
        def reach($l): map(select(.full_valid_loss <= $l))[0];
        ($fast | seen) as $f | ($plain | seen) as $p |
        ([$f[-1].full_valid_loss, $p[-1].full_valid_loss] | max) as $l |
        ($f | reach($l)) as $a | ($p | reach($l)) as $b |
        "  to validation loss \($l | n), measured every 10 steps:",
        "    with Fast Forward     step \($a.step), \($a.flops / 1e9 | round) GFLOP",
        "    without               step \($b.step), \($b.flops / 1e9 | round) GFLOP",
        (100 * (1 - $a.flops / $b.flops) | round |
         if . >= 0 then "  Fast Forward saved \(.) % of the arithmetic in this pair of runs"
         else "  Fast Forward cost \(-.) % more arithmetic in this pair of runs" end)'
}

if [ "${DEMO_COMPARE:-}" = 1 ] || { [ "${DEMO_COMPARE:-}" != 0 ] && [ $SECONDS -lt 75 ]; }; then
    compare
else
    say "the comparison with and without Fast Forward is left out for time (DEMO_COMPARE=1 runs it)"
fi

say "result, after $SECONDS seconds"
printf '  loss on held-out rows   %.4f before, %.4f after\n' "$before" "$after"
jq -sr '
    (map(.data | select(.status == "succeeded")) | last) as $stop |
    map(.data.fast_forward // empty) as $stages |
    "  Fast Forward            \($stages | length) stages, \($stages | map(.tau) | add // 0) simulated steps, " +
    "\($stages | map(.evaluations) | add // 0) evaluations, " +
    "\(100 * $stop.flops.fast_forward / ($stop.flops.training + $stop.flops.fast_forward) | round) % of the job'\''s arithmetic"
    ' "$work/job.jsonl"
echo "  adapter                 $adapter"
jq -en "$after < $before" >/dev/null || die "the loss did not fall"
