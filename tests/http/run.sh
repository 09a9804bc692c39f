#!/bin/bash
# A live server on a free loopback port against raw sockets; last line: N passed, N failed, N skipped.
# usage: tests/http/run.sh BUILD_DIR [NAME...]   (NAME: a part of a test's name)
exec python3 "$(dirname "$0")/run.py" "$@"
