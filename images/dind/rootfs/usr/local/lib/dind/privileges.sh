# shellcheck shell=sh
# What a nested daemon needs of the container it runs in. Without it dockerd fails late, and in riddles.

# has_capability NUMBER [CapBnd]: is the bit (capability.h) set in our effective set, or in that one?
has_capability() {
	while read -r name value; do
		[ "$name" != "${2:-CapEff}:" ] || return $((1 - (0x$value >> $1 & 1)))
	done </proc/self/status
	return 1
}

is_root() {
	while read -r name _ user _; do
		[ "$name" != Uid: ] || return "$((user != 0))"
	done </proc/self/status
}

require_privileges() {
	! rootless || [ -w /proc/sys/net/ipv4/ip_forward ] || die 'this container has /proc/sys read-only, so a rootless' \
		'daemon can give its containers no network: give --security-opt systempaths=unconfined.'
	missing=''
	has_capability 21 || missing='CAP_SYS_ADMIN'
	has_capability 12 || missing="${missing:+$missing and }CAP_NET_ADMIN"
	rootless || [ -n "$missing" ] || [ -w /proc/sys/net/ipv4/ip_forward ] || missing='a writable /proc/sys'
	rootless || [ -n "$missing" ] || ! has_read_only_cgroup || missing='a writable /sys/fs/cgroup'
	[ -z "$missing" ] || die "this container lacks $missing, so no Docker daemon can run in it." \
		"Start it with --privileged; or, without that, use the runtime sysbox," \
		"run the daemon as a user who is not root (--user), or mount the host's /var/run/docker.sock and run only the client."
	require_own_cgroup
	require_writable_root
	require_limits
}

# has_read_only_cgroup: is a cgroup hierarchy mounted so? By the mount, since a user namespace's root need not own it.
has_read_only_cgroup() {
	while read -r _ _ _ _ folder options rest; do
		case "$folder:$options,:$rest" in
			*/systemd:*) ;; # none that limits anything
			/sys/fs/cgroup*:ro,*:*'- cgroup '* | /sys/fs/cgroup:ro,*:*'- cgroup2 '*) return 0 ;;
		esac
	done </proc/self/mountinfo
	return 1
}

# require_own_cgroup: on version 1 a user's engine has none to give, and no nested container would start.
require_own_cgroup() {
	if rootless || [ ! -d /sys/fs/cgroup/devices ] || [ -w /sys/fs/cgroup/devices ]; then
		return 0
	fi
	die 'this container may make no cgroup, so its daemon could run none in it: the engine around it is a user'"'s, on cgroup" \
		"v1. Let that machine use cgroup v2, take an engine of root's, or mount the engine's socket and run only the client."
}

# require_writable_root: or mounts over it, which --read-only asks for.
require_writable_root() {
	missing=''
	[ -w "$RUN" ] || missing=' --tmpfs /run'
	[ -z "$missing" ] || [ -z "$standard_listeners" ] || [ -z "${DOCKER_TLS_CERTDIR:-}" ] ||
		[ -w "$DOCKER_TLS_CERTDIR" ] || missing="$missing --tmpfs $DOCKER_TLS_CERTDIR"
	[ -z "$missing" ] || die "$RUN cannot be written, as with --read-only: give$missing as well."
}

# What a daemon and one nested container need, as measured: below it one of them is killed, or cannot start a process.
LEAST_MEMORY=96 # MB
LEAST_PROCESSES=64

require_limits() {
	own_limit memory memory.max memory.limit_in_bytes
	[ "$LIMIT" -ge $((LEAST_MEMORY << 20)) ] || die "this container may use $((LIMIT >> 20)) MB of memory, and a daemon" \
		"with one small container needs $LEAST_MEMORY: give --memory=512m, or more."
	own_limit pids pids.max pids.max
	[ "$LIMIT" -ge "$LEAST_PROCESSES" ] || die "this container may have $LIMIT processes, and a daemon with one small" \
		"container needs $LEAST_PROCESSES: give --pids-limit=512, or more."
}

# own_limit CONTROLLER FILE2 FILE1: of this container's cgroup, version 2 or 1, into LIMIT; a very large number where
# there is none to be seen.
own_limit() {
	LIMIT=''
	while IFS=: read -r _ controllers path; do
		case "$controllers" in
			'') file=/sys/fs/cgroup${path%/init}/$2 ;;
			"$1") file=/sys/fs/cgroup/$1/$3 ;;
			*) continue ;;
		esac
		[ ! -r "$file" ] || read -r LIMIT <"$file" || :
		[ -z "$LIMIT" ] || break
	done </proc/self/cgroup
	case "$LIMIT" in
		'' | *[!0-9]*) LIMIT=9223372036854771712 ;;
	esac
}

# refuse_foreign_socket: where another daemon's socket is mounted in the place of ours, and no command is given, there is
# a shell for who has a terminal.
refuse_foreign_socket() {
	is_mounted_socket /var/run/docker.sock || return 0
	case "${DOCKER_HOST:-}" in
		'' | unix:///var/run/docker.sock | unix:///run/docker.sock | tcp:*) ;;
		*) return 0 ;;
	esac
	[ ! -t 0 ] || exec docker-entrypoint.sh bash
	die "the socket of another daemon is mounted at /var/run/docker.sock, so none can be started here: give a command" \
		'that is to run with that daemon (ps, say), or leave the mount out.'
}

# require_own_sockets: the same for a daemon that was asked for.
require_own_sockets() {
	for address in $LISTENERS; do
		case "$address" in
			unix://*) ! is_mounted_socket "${address#unix://}" || die "something is mounted at ${address#unix://}, so" \
				'no daemon can listen there: leave the mount out, or give --host another path.' ;;
		esac
	done
}
