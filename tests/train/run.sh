#!/bin/bash
# Runs of `ffwd train` and `ffwd worker` from end to end on a model of 25,000 parameters: the same
# bytes always, whatever happens to the process; every way a run ends; Fast Forward; the worker.
# usage: tests/train/run.sh BUILD_DIR
set -u
build=$(cd "${1:?usage: tests/train/run.sh BUILD_DIR}" && pwd)
cd "$(dirname "$0")/../.." || exit 2
ffwd=$build/ffwd
cases=tests/reference/cases
model=$cases/llama-gqa
work=$(mktemp -d /tmp/ffwd-train-XXXXXX)
trap '[ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT

# shellcheck source=tests/train/lib.sh
. tests/train/lib.sh

make_rows 120 1 >"$work/train.jsonl"
make_rows 60 2 >"$work/valid.jsonl"
cat >"$work/config.json" <<END
{"seed": 7, "hyperparameters": {"n_epochs": 2, "batch_size": 3},
 "lora": {"rank": 4, "dropout": 0.1}, "fast_forward": {"validation_examples": 4},
 "training": {"learning_rate": 0.004, "checkpoint_interval": 10, "eval_interval": 20}}
END
train "$work/reference" >"$work/reference.log" 2>"$work/reference.err" || {
    echo "FAIL train: the reference run"
    cat "$work/reference.err"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
}

for part in ${PARTS:-same kill end fast_forward trajectory memory worker}; do
    # shellcheck source=/dev/null
    . "tests/train/$part.sh"
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
