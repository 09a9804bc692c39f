#!/bin/bash
# Runs every test group and prints a line for each, then the sum as the last line:
#   N passed, N failed, N skipped
# usage: tests/run.sh BUILD_DIR [GROUP...]     (groups: unit ops reference cuda http ...)
#
# A group is a set of Criterion programs, or tests/GROUP/run.sh, whose own last line has the form
# of the sum. A Criterion test that cannot run here prints a line `SKIP: reason`; it counts as
# skipped, not as passed.
set -u
build=${1:?usage: tests/run.sh BUILD_DIR [GROUP...]}
shift
cd "$(dirname "$0")/.." || exit 2
groups=${*:-unit ops reference cuda train http}
logs=$build/tests/logs
mkdir -p "$logs"
# what programs keep for their user is not the user's who runs tests
XDG_CACHE_HOME=$(realpath "$logs")/cache
export XDG_CACHE_HOME
rm -rf "$XDG_CACHE_HOME"
passed=0 failed=0 skipped=0

count() { # GROUP PASSED FAILED SKIPPED
    printf '%-10s %4d passed, %d failed, %d skipped\n' "$1" "$2" "$3" "$4"
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
}

criterion_group() { # GROUP [LABEL]
    local p=0 f=0 s=0 bin log tested passing skips
    while IFS= read -r bin; do
        log=$logs/$(echo "${bin#"$build"/tests/}" | tr / .)${2:+.$2}.log
        timeout 600 "$bin" --color=never -j2 >"$log" 2>&1
        local status=$?
        tested=$(sed -n 's/.*Tested: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
        passing=$(sed -n 's/.*Passing: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
        skips=$(grep -c '^SKIP: ' "$log")
        if [ -z "$tested" ] || { [ "$status" != 0 ] && [ "$tested" = "$passing" ]; }; then
            f=$((f + 1))
            echo "FAIL $bin ${2:-} (status $status)"
            tail -n 20 "$log"
            continue
        fi
        if [ "$tested" != "$passing" ]; then
            echo "FAIL $bin ${2:-}"
            grep -vE '^\[(PASS|RUN |====)' "$log" | head -n 40
        fi
        p=$((p + passing - skips)) f=$((f + tested - passing)) s=$((s + skips))
        grep '^SKIP: ' "$log"
    done < <(find "$build/tests/$1" -type f -executable -name 'test_*' 2>/dev/null | sort)
    count "$1${2:+ $2}" "$p" "$f" "$s"
}

# The operations and the reference models again, held to each instruction set below the processor's
# own, but not under sanitizers, where each takes minutes.
smaller_instruction_sets() {
    local flags
    [[ $build != *san-* ]] || return 0
    flags=" $(grep -m 1 '^flags' /proc/cpuinfo) "
    [[ $flags != *" avx512bw "* ]] || echo avx2
    [[ $flags != *" avx512_bf16 "* ]] || echo avx512
    [[ $flags != *" avx512_fp16 "* ]] || echo avx512_bf16
    [[ $flags != *" amx_bf16 "* ]] || echo avx512_fp16
}

on_smaller_sets() { # GROUP
    local isa
    for isa in $(smaller_instruction_sets); do
        FFWD_CPU_ISA=$isa criterion_group "$1" "$isa"
    done
}

# The AMX kernels with their tile instructions in C; not built with sanitizers.
emulated_tiles() {
    [[ $build != *san-* ]] || return 0
    if grep -m 1 '^flags' /proc/cpuinfo | grep -qw avx512_bf16; then
        criterion_group tiles
    else
        echo "SKIP: tiles: this processor has no AVX512-BF16, which the AMX kernels use as well"
        count tiles 0 0 1
    fi
}

script_group() { # GROUP
    local log=$logs/$1.log line
    "tests/$1/run.sh" "$build" 2>&1 | tee "$log" | grep -E '^(FAIL|SKIP)' 
    line=$(grep -oE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
    if [ -z "$line" ]; then
        echo "FAIL $1: no closing line"
        tail -n 20 "$log"
        count "$1" 0 1 0
        return
    fi
    # shellcheck disable=SC2086
    set -- "$1" ${line//[a-z,]/}
    count "$1" "$2" "$3" "$4"
}

for group in $groups; do
    if [ -x "tests/$group/run.sh" ]; then
        script_group "$group"
    else
        criterion_group "$group"
    fi
    case $group in
    ops | reference) on_smaller_sets "$group" ;;
    esac
    [ "$group" != ops ] || emulated_tiles
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
