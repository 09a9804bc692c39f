#!/bin/bash
# CPU benchmarks, one JSON line each on stdout: the training step, what Fast Forward saves on the
# demo's task, the server's memory during a big upload, 10,000 readers of one event stream,
# the server beside a bare libmicrohttpd, how honest estimated_finish is.
# usage: tests/bench/run.sh BUILD_DIR [step|fast_forward|upload|sse|server|estimate...]
set -eu
build=${1:?usage: tests/bench/run.sh BUILD_DIR [step|fast_forward|upload|sse|server|estimate...]}
shift
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- step fast_forward upload sse server estimate
for part in "$@"; do
    case $part in
    step) "$build/ffwd" bench --shape smollm2-135m --device cpu --seq 512 --batch 4 --rank 16 --steps 5 ;;
    fast_forward) tests/bench/fast_forward.sh "$build" ;;
    upload) python3 tests/http/big_upload.py "$build" ;;
    sse) python3 tests/bench/sse.py "$build" ;;
    estimate) python3 tests/bench/estimate.py "$build" ;;
    server) python3 tests/bench/server/bench.py "$build" ;;
    *)
        echo "no benchmark '$part'" >&2
        exit 2
        ;;
    esac
done
