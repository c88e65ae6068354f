# shellcheck shell=sh
# What a nested daemon needs of the container it runs in. Without it dockerd fails late, and in riddles.

# has_capability NUMBER: is the bit (capability.h) set in our effective set?
has_capability() {
	while read -r name value; do
		[ "$name" != CapEff: ] || return $((1 - (0x$value >> $1 & 1)))
	done </proc/self/status
	return 1
}

is_root() {
	while read -r name _ user _; do
		[ "$name" != Uid: ] || return "$((user != 0))"
	done </proc/self/status
}

require_privileges() {
	missing=''
	has_capability 21 || missing='CAP_SYS_ADMIN'
	has_capability 12 || missing="${missing:+$missing and }CAP_NET_ADMIN"
	rootless || [ -n "$missing" ] || [ -w /proc/sys/net/ipv4/ip_forward ] || missing='a writable /proc/sys'
	[ -z "$missing" ] || die "this container lacks $missing, so no Docker daemon can run in it." \
		"Start it with --privileged; or, without that, use the runtime sysbox," \
		"run the daemon as a user who is not root (--user), or mount the host's /var/run/docker.sock and run only the client."
}
