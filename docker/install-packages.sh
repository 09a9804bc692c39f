#!/bin/sh
# Installs the Debian packages ffwd builds and tests with, where it may; otherwise names them.
# Used by `make`, by the container images and by CI. Argument `runtime`: only what running needs.
set -eu

build="gcc g++ make pkg-config libc6-dev libmicrohttpd-dev libjansson-dev libuv1-dev libsqlite3-dev
libsodium-dev libcurl4-openssl-dev libdnnl-dev libpcre2-dev libutf8proc-dev libcriterion-dev curl jq clang-format
python3 python3-venv ca-certificates git"
runtime="libmicrohttpd12 libjansson4 libuv1 libsqlite3-0 libsodium23 libcurl4 libdnnl2 libpcre2-8-0
libutf8proc2 libgomp1 ca-certificates curl"

wanted=$build
[ "${1:-}" = runtime ] && wanted=$runtime

missing=""
for package in $wanted; do
    state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "missing Debian packages; install them with: apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
