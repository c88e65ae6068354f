# shellcheck shell=sh
# Where a client finds its daemon, and with which certificates, when nobody said so.

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
