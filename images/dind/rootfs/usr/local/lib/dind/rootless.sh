# shellcheck shell=sh
# The daemon of a user who is not root. rootlesskit makes the user namespace, where this user looks like root, and runs
# the entrypoint anew inside: everything after that is the same, at the places that are the user's own.

# become_rootless STANDARD-LISTENERS ARGUMENT…: never returns.
become_rootless() {
	missing=''
	for tool in rootlesskit:rootlesskit newuidmap:uidmap slirp4netns:slirp4netns; do
		command -v "${tool%:*}" >/dev/null || missing="$missing ${tool#*:}"
	done
	user=$(id -un 2>/dev/null) || user=$(id -u)
	[ -z "$missing" ] || die "user $user is not root, and a rootless daemon needs packages that this image leaves" \
		"out: install$missing in an image made from this one, or run this one as root."
	for table in /etc/subuid /etc/subgid; do
		grep -q "^$user:" "$table" || die "user $user has no line in $table: add '$user:100000:65536' to it."
	done
	: "${XDG_RUNTIME_DIR:=/run/user/$(id -u)}"
	[ -w "$XDG_RUNTIME_DIR" ] || die "user $user cannot write to XDG_RUNTIME_DIR ($XDG_RUNTIME_DIR): make it for them."
	[ "${DOCKERD_ROOTLESS_ROOTLESSKIT_NET:-slirp4netns}" != slirp4netns ] || [ -w /dev/net/tun ] ||
		die "user $user cannot write to /dev/net/tun, which slirp4netns needs: chmod 0666 it on the host."
	export XDG_RUNTIME_DIR HOME="${HOME:-/home/$user}"
	# Clients come to the addresses out here; inside there are others.
	[ -z "${DOCKER_TLS_CERTDIR:-}" ] || DOCKER_TLS_SAN="${DOCKER_TLS_SAN:-} $(own_addresses | tr '\n' ' ')"
	export DOCKER_TLS_SAN="${DOCKER_TLS_SAN:-}"
	standard=$1
	shift
	if [ -n "$standard" ]; then
		port=${DOCKER_TLS_CERTDIR:+2376}
		DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS="${DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS:-} -p 0.0.0.0:${port:=2375}:$port/tcp"
	else
		set -- dockerd "$@"
	fi
	# shellcheck disable=SC2086 # flags are words
	exec rootlesskit --net="${DOCKERD_ROOTLESS_ROOTLESSKIT_NET:-slirp4netns}" \
		--mtu="${DOCKERD_ROOTLESS_ROOTLESSKIT_MTU:-1500}" --disable-host-loopback --port-driver=builtin \
		--copy-up=/etc --copy-up=/run ${DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS:-} "$0" "$@"
}

# rootless: are we inside?
rootless() { [ -n "${ROOTLESSKIT_STATE_DIR:-}" ]; }

# rootless_places: where dockerd keeps things for a user.
rootless_places() {
	# shellcheck disable=SC2034 # read by the others
	STATE=$XDG_RUNTIME_DIR/dind SOCKET=$XDG_RUNTIME_DIR/docker.sock RUN=$XDG_RUNTIME_DIR \
		DEFAULT_DATA_ROOT=${XDG_DATA_HOME:-$HOME/.local/share}/docker \
		DEFAULT_DAEMON_JSON=${XDG_CONFIG_HOME:-$HOME/.config}/docker/daemon.json
}
