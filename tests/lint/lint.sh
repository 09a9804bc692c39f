#!/bin/bash
# What the compiler does not check: format, who may include whom, what the programs link, size
# ceilings, banned functions, shell syntax. Prints every finding; exit status 1 if there is one.
# usage: tests/lint/lint.sh BUILD_DIR
set -u
build=${1:-build}
cd "$(dirname "$0")/../.." || exit 2
findings=0
finding() {
    echo "lint: $*"
    findings=$((findings + 1))
}

sources=$(git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh')
code=$(git ls-files 'base/*.[ch]' 'storage/*.[ch]' 'api/*.[ch]' 'server/*.[ch]' 'engine/*.[ch]' 'engine/*.cu' 'engine/*.cuh' 'engine/*.cc')

# ---- format ---------------------------------------------------------------------------------
while IFS= read -r f; do finding "$f: not in the project's format (make format)"; done < <(
    git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh' | xargs -n 64 clang-format --dry-run -Werror 2>&1 | sed -n 's/:.*clang-format-violations.*//p' | sort -u
)

# ---- include table: a folder may include itself and these ------------------------------------
allowed() {
    case $1 in
    base) echo "base" ;;
    storage) echo "base storage" ;;
    api) echo "base storage api" ;;
    server) echo "base storage api server" ;;
    engine) echo "base engine" ;;
    engine/ops) echo "base engine/ops" ;;
    engine/model) echo "base engine/ops engine/model" ;;
    engine/text) echo "base engine/text" ;;
    engine/train) echo "base engine/ops engine/model engine/text engine/train" ;;
    engine/cli) echo "base engine" ;;
    esac
}
place_of() {
    case $1 in
    engine/ops/* | engine/model/* | engine/text/* | engine/train/* | engine/cli/*) echo "$1" | cut -d/ -f1-2 ;;
    *) echo "$1" | cut -d/ -f1 ;;
    esac
}
for f in $code; do
    place=$(place_of "$f")
    while IFS= read -r header; do
        target=$(place_of "$header")
        ok=no
        for a in $(allowed "$place"); do
            case $target in "$a" | "$a"/*) ok=yes ;; esac
        done
        [ $ok = yes ] || finding "$f: $place may not include $header"
    done < <(sed -n 's/^#include "\(.*\)"$/\1/p' "$f")
done
third_party() { # HEADER PATTERN, FOLDERS THAT MAY
    local pattern=$1
    shift
    grep -lE "#include <($pattern)" $code | while IFS= read -r f; do
        for ok in "$@"; do case $f in "$ok"/*) continue 2 ;; esac; done
        echo "$f: <$pattern> belongs to: $*"
    done
}
while IFS= read -r line; do [ -n "$line" ] && finding "$line"; done < <(
    third_party 'sqlite3\.h' storage
    third_party 'microhttpd\.h|uv\.h|curl/' server
    third_party '(oneapi/)?dnnl' engine/ops
    third_party 'pcre2\.h|utf8proc\.h' engine/text
    third_party 'cuda|cublas|cudnn' engine/ops/cuda
)
while IFS= read -r line; do finding "$line: no #ifdef CUDA"; done < <(
    grep -nE '^#\s*if.*CUDA' $code | grep -vE '#ifndef FFWD_[A-Z_]*_C?U?H$'
)

# ---- links ------------------------------------------------------------------------------------
links() { # PROGRAM FORBIDDEN...
    [ -x "$1" ] || { finding "$1 is not built"; return; }
    local needed
    needed=$(objdump -p "$1" | awk '/NEEDED/ {print $2}')
    local program=$1
    shift
    for lib in "$@"; do
        echo "$needed" | grep -q "^lib$lib" && finding "$program links lib$lib"
    done
}
links "$build/ffwd" microhttpd sqlite3 uv curl cuda cublas cudnn
links "$build/ffwd-server" dnnl cuda cublas cudnn pcre2 gomp

# What the CUDA device leaves open must be in ffwd, or it cannot be loaded.
if [ -f build/libffwd-cuda.so ] && [ -x build/ffwd ]; then
    links build/libffwd-cuda.so cudnn cudart
    while IFS= read -r symbol; do finding "libffwd-cuda.so needs $symbol, which ffwd does not export"; done < <(
        comm -23 <(nm -D --undefined-only build/libffwd-cuda.so | awk '$1 == "U" && !/@/ {print $2}' | sort) \
            <(nm -D --defined-only build/ffwd | awk '{print $NF}' | sort)
    )
    # ffwd's own function of the same name would be called instead.
    while IFS= read -r symbol; do finding "$symbol is in both libffwd-cuda.so and ffwd"; done < <(
        comm -12 <(nm -D --defined-only build/libffwd-cuda.so | awk '$2 ~ /[TDB]/ {print $3}' | sort) \
            <(nm -D --defined-only build/ffwd | awk '$2 ~ /[TDB]/ {print $3}' | sort)
    )
fi

# ---- ceilings ---------------------------------------------------------------------------------
for f in $sources $(git ls-files '*.py' '*.sh'); do
    n=$(wc -l <"$f")
    [ "$n" -le 500 ] || finding "$f: $n lines; a file has at most 500"
done
while IFS= read -r line; do finding "$line"; done < <(
    awk 'FNR == 1 { inside = 0; head = 0 }
         /^[a-zA-Z_]/ && !inside { head = FNR }
         /\) \{$/ && !inside && head { inside = 1 }
         /^\}/ { n = FNR - head + 1
                 if (inside && n > 60) print FILENAME ":" head ": " n " lines; a function has at most 60"
                 inside = 0; head = 0 }' $sources
)

# ---- banned -----------------------------------------------------------------------------------
while IFS= read -r line; do finding "$line: banned function"; done < <(
    grep -nE '(^|[^a-zA-Z_0-9>.])(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|strncpy|alloca|system|popen)\(' $code
)
while IFS= read -r line; do finding "$line: exit() only in main files"; done < <(
    grep -nE '(^|[^a-zA-Z_0-9])exit\(' $code | grep -vE '^(engine|server)/main\.c:'
)
while IFS= read -r line; do finding "$line: unfinished mark"; done < <(
    grep -nE '\b(TODO|FIXME|XXX|HACK)\b' $sources
)
for f in $(git ls-files '*.sh' '.ci/run'); do
    bash -n "$f" || finding "$f: shell syntax"
done

[ "$findings" = 0 ] && echo "lint: nothing found"
[ "$findings" = 0 ]
