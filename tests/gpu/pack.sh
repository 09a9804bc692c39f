#!/bin/bash
# Copies the shared libraries that the programs in a folder need into FOLDER/lib, so that it runs on
# a machine where nothing is installed but the driver and CUDA's libraries.
# usage: tests/gpu/pack.sh FOLDER
set -eu
folder=${1:?usage: tests/gpu/pack.sh FOLDER}
mkdir -p "$folder/lib"
for program in "$folder"/ffwd "$folder"/ffwd-server "$folder"/*test_*; do
    ldd "$program"
done | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
    grep -vE '/(libc|libm|libdl|libpthread|librt|libresolv|libgcc_s|libstdc\+\+|ld-linux[^/]*|libcu[^/]*)\.so' |
    xargs -r cp -uL -t "$folder/lib"
