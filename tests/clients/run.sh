#!/bin/bash
# The real clients against a live server: openai SDK, PEFT, schemathesis.
# Makes a virtual environment from tests/requirements.txt, kept in the user's cache by the hash of
# that file, so that only the first run installs.
# usage: tests/clients/run.sh BUILD_DIR [PYTEST ARGUMENTS]
set -eu
build=$(realpath "${1:?usage: tests/clients/run.sh BUILD_DIR}")
shift
cd "$(dirname "$0")/../.."
hash=$(sha256sum tests/requirements.txt | cut -c1-16)
venv=${FFWD_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/ffwd/venv-$hash}
if [ ! -e "$venv/complete" ] && [ -z "${FFWD_VENV:-}" ]; then
    echo "installing the clients into $venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
    touch "$venv/complete"
fi
export FFWD_BUILD=$build HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/clients "$@"
