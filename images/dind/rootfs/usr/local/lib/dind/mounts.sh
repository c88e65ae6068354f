# shellcheck shell=sh
# Pseudo file systems that a privileged container does not bring along. /tmp is left alone: a mount over it would
# hide what users put there (https://github.com/devcontainers/features/issues/471).

# is_mounted FOLDER: by a table read once, as this is asked for every cgroup hierarchy.
is_mounted() {
	if [ -z "${MOUNTS:-}" ]; then
		MOUNTS=$NEWLINE
		while read -r _ _ _ _ folder _; do
			MOUNTS=$MOUNTS$folder$NEWLINE
		done </proc/self/mountinfo
	fi
	case "$MOUNTS" in
		*"$NEWLINE$1$NEWLINE"*) return 0 ;;
	esac
	return 1
}

# is_mounted_socket PATH: by the path that the kernel has for it, where /var/run leads to /run.
is_mounted_socket() { is_mounted "$1" || is_mounted "/run/${1#/var/run/}"; }

mount_pseudo_file_systems() {
	! rootless || return 0
	if ! in_user_namespace && [ -d /sys/kernel/security ] && ! is_mounted /sys/kernel/security; then
		mount -t securityfs none /sys/kernel/security 2>/dev/null ||
			log_warn 'securityfs cannot be mounted: nested containers do not see which security modules are on.'
	fi
	# Nested containers ask for shared propagation (-v …:shared), and a container's own root is private.
	mount --make-rshared / 2>/dev/null ||
		log_warn 'the root cannot be made a shared mount: nested :shared volumes will be refused.'
}
