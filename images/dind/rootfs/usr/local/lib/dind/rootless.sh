# shellcheck shell=sh
# The daemon of a user who is not root: as root by sudo, where that asks for no password, else as theirs. rootlesskit makes
# the user namespace, where this user looks like root, and runs the entrypoint anew inside: everything after that is the
# same, at the places that are the user's own.

# become_root STANDARD-LISTENERS ARGUMENT…: never returns, unless this user cannot, or wants a rootless daemon.
become_root() {
	[ -z "${XDG_RUNTIME_DIR:-}${DOCKERD_ROOTLESS_ROOTLESSKIT_NET:-}${DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS:-}" ] || return 0
	has_capability 21 CapBnd || return 0
	sudo -n "$0" --version >/dev/null 2>&1 || return 0
	standard=$1
	shift
	[ -n "$standard" ] || set -- dockerd "$@"
	exec sudo -n "$0" "$@"
}

# keep_environment: what the container was told, and sudo has dropped: without it an API would open that nobody wants.
keep_environment() {
	is_called "$PPID" sudo || return 0
	eval "$(perl -0ne '
		chomp;
		my ($name, $value) = split /=/, $_, 2;
		next if exists $ENV{$name} || $name !~ /^(?:DOCKER|DOCKERD|DIND)_\w+$|^(?:all|ftp|https?|no)_proxy$/i;
		$value =~ s/\x27/\x27\\\x27\x27/g;
		print "export $name=\x27$value\x27\n";
	' "/proc/$PPID/environ")"
}

# is_called PROCESS NAME: by its command.
is_called() { read -r name <"/proc/$1/comm" && [ "$name" = "$2" ]; } 2>/dev/null

# become_rootless STANDARD-LISTENERS ARGUMENT…: never returns.
become_rootless() {
	network=${DOCKERD_ROOTLESS_ROOTLESSKIT_NET:-slirp4netns}
	user=$(id -un 2>/dev/null) || user=$(id -u)
	require_rootless_tools
	for table in /etc/subuid /etc/subgid; do
		grep -q "^$user:" "$table" || die "user $user has no line in $table: add '$user:100000:65536' to it."
	done
	: "${XDG_RUNTIME_DIR:=/run/user/$(id -u)}"
	{ (umask 077 && mkdir -p "$XDG_RUNTIME_DIR") 2>/dev/null && [ -w "$XDG_RUNTIME_DIR" ]; } ||
		die "user $user cannot write to XDG_RUNTIME_DIR ($XDG_RUNTIME_DIR): make it for them."
	failure=$(unshare --user true 2>&1) || die "user $user can make no user namespace here (${failure##*: }), and a" \
		'rootless daemon lives in one: give --security-opt seccomp=unconfined --security-opt apparmor=unconfined.'
	require_tunnel
	[ -z "${DIND_SWARM:-}" ] || die "DIND_SWARM=$DIND_SWARM: a rootless daemon can be in no swarm, since the overlay" \
		'networks between nodes need root on each. Use the image dind, with --privileged.'
	export XDG_RUNTIME_DIR HOME="${HOME:-/home/$user}"
	# Clients come to the addresses out here; inside there are others.
	[ -z "${DOCKER_TLS_CERTDIR:-}" ] || DOCKER_TLS_SAN="${DOCKER_TLS_SAN:-} $(own_addresses | tr '\n' ' ')"
	ROOTLESS_OUTSIDE=$(ip -oneline -4 route show scope link | while read -r subnet _; do echo "$subnet"; done)
	export DOCKER_TLS_SAN="${DOCKER_TLS_SAN:-}" ROOTLESS_OUTSIDE
	standard=$1
	shift
	if [ -n "$standard" ]; then
		port=${DOCKER_TLS_CERTDIR:+2376}
		DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS="${DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS:-} -p 0.0.0.0:${port:=2375}:$port/tcp"
	else
		set -- dockerd "$@"
	fi
	# shellcheck disable=SC2086 # flags are words
	exec rootlesskit --net="$network" \
		--mtu="${DOCKERD_ROOTLESS_ROOTLESSKIT_MTU:-1500}" --disable-host-loopback --port-driver=builtin \
		--copy-up=/etc --copy-up=/run ${DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS:-} "$0" "$@"
}

require_rootless_tools() {
	missing=''
	for tool in rootlesskit:rootlesskit newuidmap:uidmap "$network:$network"; do
		case "$tool" in
			host:* | none:* | lxc-user-nic:*) continue ;; # nothing that is a program on PATH
			pasta:*) tool=pasta:passt ;;
		esac
		command -v "${tool%:*}" >/dev/null || missing="$missing ${tool#*:}"
	done
	[ -z "$missing" ] || die "user $user is not root, sudo -n does not make them root here, and a rootless daemon needs" \
		"packages that this image leaves out (${missing# }): the image dind-rootless has them. Or run this as root, with" \
		'--privileged: in a devcontainer name the user by remoteUser, in the place of USER and containerUser.'
}

# require_tunnel: both networks in user space stand on it.
require_tunnel() {
	case "$network" in
		slirp4netns | pasta) ;;
		*) return 0 ;;
	esac
	[ -e /dev/net/tun ] || die "there is no /dev/net/tun in this container, which $network needs: give" \
		'--device /dev/net/tun, after modprobe tun where the host has none either.'
	[ -w /dev/net/tun ] || die "user $user cannot write to /dev/net/tun, which $network needs: on the host, run" \
		'chmod 0666 /dev/net/tun, as udev does, and start this container anew.'
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

# keep_off_outside: the networks that the container is in do not show in this network namespace, and a nested one would
# hide them. From Docker 27 on only routes without a gateway count: one that never applies, beside the one that does.
keep_off_outside() {
	rootless && default_route && [ -n "$GATEWAY" ] || return 0
	for subnet in ${ROOTLESS_OUTSIDE:-}; do
		{
			ip route add "$subnet" via "$GATEWAY" dev "$DEVICE" &&
				ip route add "$subnet" dev "$DEVICE" scope link metric 4294967294
		} 2>/dev/null || log_warn "no route to $subnet could be made: a nested network may hide it."
	done
	unset ROOTLESS_OUTSIDE
}
