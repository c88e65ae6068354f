# shellcheck shell=sh
# Where a client finds its daemon, and with which certificates, when nobody said so.

# find_daemon [COMMAND…]: export where it is, since libraries for Docker know no other way to be told.
find_daemon() {
	if [ -z "${DOCKER_HOST:-}" ]; then
		for socket in /var/run/docker.sock "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock"; do
			[ ! -S "$socket" ] || {
				export DOCKER_HOST="unix://$socket"
				return
			}
		done
		if has_client_certificates || [ -n "${DOCKER_TLS_VERIFY:-}" ]; then
			export DOCKER_HOST=tcp://docker:2376
		elif is_interactive_shell "$@" && ! timeout 2 getent hosts docker >/dev/null; then
			return 0 # nobody is there, and who has a shell may start a daemon by hand
		else
			export DOCKER_HOST=tcp://docker:2375
		fi
	fi
	case "$DOCKER_HOST" in
		tcp:*)
			if [ -z "${DOCKER_TLS_VERIFY+set}${DOCKER_CERT_PATH+set}" ] && has_client_certificates; then
				export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH="$DOCKER_TLS_CERTDIR/client"
			fi
			;;
	esac
}

has_client_certificates() {
	[ -n "${DOCKER_TLS_CERTDIR:-}" ] && [ -s "$DOCKER_TLS_CERTDIR/client/ca.pem" ] &&
		[ -s "$DOCKER_TLS_CERTDIR/client/cert.pem" ] && [ -s "$DOCKER_TLS_CERTDIR/client/key.pem" ]
}

# is_interactive_shell COMMAND…: on a terminal, with nothing to run but what is typed there.
is_interactive_shell() {
	case "${1:-}" in
		sh | ash | bash | dash | fish | ksh | zsh | */sh | */ash | */bash | */dash | */fish | */ksh | */zsh) ;;
		*) return 1 ;;
	esac
	shift
	for word; do
		case "$word" in
			--*) ;;
			-*c*) return 1 ;;
			-*) ;;
			*) return 1 ;;
		esac
	done
	[ -t 0 ]
}

# run_client COMMAND…: never returns. An interactive shell ignores SIGTERM: as all of a container it is told otherwise.
run_client() {
	if [ "$PPID" -eq 1 ] && is_interactive_shell "$@"; then
		exec perl /usr/local/lib/dind/shell.pl "$@"
	fi
	exec "$@"
}
