#!/bin/bash
# ffwd and PEFT side by side on this CPU; the table on stdout, JSON in BUILD_DIR/bench-cpu.json.
# Makes a virtual environment from tests/bench/requirements.txt, kept in the user's cache by the
# hash of that file, so that only the first run installs.
# usage: tests/bench/cpu.sh BUILD_DIR [cpu.py ARGUMENTS]
set -eu
build=$(realpath "${1:?usage: tests/bench/cpu.sh BUILD_DIR [ARGUMENTS]}")
shift
cd "$(dirname "$0")/../.."
hash=$(sha256sum tests/bench/requirements.txt | cut -c1-16)
venv=${FFWD_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/ffwd/venv-$hash}
if [ ! -e "$venv/complete" ] && [ -z "${FFWD_VENV:-}" ]; then
    echo "installing torch, transformers and PEFT into $venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/bench/requirements.txt
    touch "$venv/complete"
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
exec python3 tests/bench/cpu.py "$build" "$venv/bin/python" --json "$build/bench-cpu.json" "$@"
