#!/bin/sh
# The client's side: `docker run IMAGE ps` is `docker ps`, and any other command runs as it is, with the environment
# that lets `docker` find its daemon.
set -eu
[ $$ -ne 1 ] || trap 'exit 143' TERM # until there is an init: a first process hears only what it asks for

# shellcheck source=/dev/null
. /usr/local/lib/dind/client.sh

# The kernel keeps signals from a first process that does not ask for them: `docker stop` would take 10 s, and kill.
case "$$ ${1-}" in
	'1 dind' | '1 with-dockerd' | '1 '*init | '1 '*/systemd) ;; # who bring their own, or are one
	'1 '*)
		PATH=$PATH:/usr/libexec/docker
		! command -v docker-init >/dev/null || exec docker-init -- "$0" "$@"
		;;
esac

case "${1:-}" in
	dind) exec "$@" ;; # a daemon's side
	-*) set -- docker "$@" ;;
	'') set -- sh ;;
	*) ! docker help "$1" >/dev/null 2>&1 || set -- docker "$@" ;;
esac

find_daemon "$@"
run_client "$@"
