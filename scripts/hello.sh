#!/bin/sh
# Say hello: append one line with the level, the host's name and the time to log.txt.
#
#   hello.sh [FOLDER]
#
# FOLDER holds log.txt; without it, the folder that holds this script. LEVEL says how deep we are (default: 0).
set -eu

folder=${1:-$(dirname "$0")}
printf 'hello from level %s on host %s at %s\n' "${LEVEL:-0}" "$(uname -n)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
	>>"$folder/log.txt"
