#!/bin/sh
# The client's side: `docker run IMAGE ps` is `docker ps`, and any other command runs as it is, with the environment
# that lets `docker` find its daemon.
set -eu

# shellcheck source=/dev/null
. /usr/local/lib/dind/client.sh

case "${1:-}" in
	dind) exec "$@" ;; # a daemon's side
	-*) set -- docker "$@" ;;
	'') set -- sh ;;
	*) ! docker help "$1" >/dev/null 2>&1 || set -- docker "$@" ;;
esac

find_daemon
exec "$@"
