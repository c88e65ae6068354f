# shellcheck shell=sh
# Pseudo file systems that a privileged container does not bring along. /tmp is left alone: a mount over it would
# hide what users put there (https://github.com/devcontainers/features/issues/471).

mount_pseudo_file_systems() {
	if [ -d /sys/kernel/security ] && ! mountpoint -q /sys/kernel/security; then
		mount -t securityfs none /sys/kernel/security 2>/dev/null ||
			log_warn 'securityfs cannot be mounted: nested containers do not see which security modules are on.'
	fi
	# Nested containers ask for shared propagation (-v …:shared), and a container's own root is private.
	mount --make-rshared / 2>/dev/null ||
		log_warn 'the root cannot be made a shared mount: nested :shared volumes will be refused.'
}
