#!/bin/sh
# Fetches the headers of cuDNN's frontend (Apache-2.0) into the user's cache, where the Makefile
# looks for them. They are of no machine or Python in particular; that one wheel is named only so
# that its hash is known. Without them the CUDA device is built with its own attention kernels
# alone, so a machine without a network is told so, and that is no error; it is asked once a day.
set -eu
version=1.32.0
sha256=c6006556017a4d1c914c52a556c71b1267f2d6a0500f742e7b4edef539878df0
to=${XDG_CACHE_HOME:-$HOME/.cache}/ffwd/cudnn-frontend-$version

failed=$to.failed

[ -e "$to/include/cudnn_frontend.h" ] && exit 0
[ -z "$(find "$failed" -mmin -1440 2>/dev/null)" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch() {
    python3 -m venv "$work/venv" || return 1
    echo "nvidia-cudnn-frontend==$version --hash=sha256:$sha256" >"$work/wanted"
    "$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64 \
        --retries 1 --timeout 10 --dest "$work" --requirement "$work/wanted" || return 1
    mkdir "$work/wheel" && python3 -m zipfile -e "$work"/*.whl "$work/wheel" || return 1
    mkdir -p "$to" && cp -r "$work/wheel/include" "$to/include.$$" || return 1
    mv -T "$to/include.$$" "$to/include" || rm -r "$to/include.$$" # another one was faster
}
echo "fetching the headers of cuDNN's frontend $version" >&2
if ! fetch >"$work/log" 2>&1; then
    tail -n 3 "$work/log" >&2
    echo "cuDNN's frontend could not be fetched: attention by ffwd's own kernels alone" >&2
    mkdir -p "${to%/*}" && : >"$failed"
fi
