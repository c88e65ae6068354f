# shellcheck shell=sh
# A place for nested containers in the cgroup tree, inside this container's own part of it.

nest_cgroups() {
	! rootless || return 0
	if in_user_namespace && ! owns_cgroup; then
		do_without_cgroups
	elif [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		nest_cgroup2
	else
		mount_cgroup1
		nest_cgroup1
	fi
}

# owns_cgroup: may this user namespace's root make cgroups below its own? Only where the host has delegated it.
owns_cgroup() {
	while IFS=: read -r hierarchy controllers path; do
		case "$hierarchy:$controllers" in
			0:) folder=/sys/fs/cgroup ;;
			*:devices) folder=/sys/fs/cgroup/devices ;;
			*) continue ;;
		esac
		[ -e "$folder/cgroup.procs" ] || continue
		[ ! -w "$folder" ] && [ ! -w "$folder$path" ] || return 0
	done </proc/self/cgroup
	return 1
}

# do_without_cgroups: by a runc that makes none.
do_without_cgroups() {
	PATH=/usr/local/lib/dind/runc-without-cgroups:$PATH
	log_warn 'this user namespace owns no cgroup: nested containers have no limits of their own.'
}

# Version 2. Only a cgroup without processes of its own may hand controllers to its children
# (https://docs.kernel.org/admin-guide/cgroup-v2.html#no-internal-process-constraint), so ours move to a child.
nest_cgroup2() {
	while IFS=: read -r hierarchy _ path; do
		[ "$hierarchy" != 0 ] || break
	done </proc/self/cgroup
	path=${path%/init} # where an earlier start in this container has moved us
	case "${path:=/}" in
		/) own=/sys/fs/cgroup ;;
		/../* | '')
			log_warn "this container's cgroup ($path) cannot be seen: nested containers have no limits of their own."
			return
			;;
		*)
			# The host's cgroup namespace, as in privileged pods: all that lies outside our own path is the host's.
			# https://github.com/moby/moby/issues/45378
			own=/sys/fs/cgroup$path
			setting auto-string cgroup-parent "$path"
			log_info "cgroup: v2 in the host's namespace; nested containers stay below $path."
			;;
	esac
	# The root of the whole tree (the one without a cgroup.type) is exempt from the rule above.
	[ ! -e "$own/cgroup.type" ] || move_processes "$own" || return 0
	enable_controllers "$own"
}

# move_processes CGROUP: into its child `init`. New processes may appear meanwhile, and one that is about to end cannot
# be moved, and is there until it has: some rounds, the later ones after a while, but never endless ones.
move_processes() {
	mkdir -p "$1/init"
	rounds=0
	while [ "$rounds" -lt 30 ]; do
		rounds=$((rounds + 1))
		[ "$rounds" -lt 5 ] || sleep 0.02
		left=''
		while read -r pid; do
			[ "$pid" = 0 ] || left="$left $pid"
		done <"$1/cgroup.procs"
		[ -n "$left" ] || return 0
		for pid in $left; do
			{ echo "$pid" >"$1/init/cgroup.procs"; } 2>/dev/null || :
		done
	done
	log_warn "processes$left do not leave $1: nested containers have no limits of their own."
	return 1
}

# enable_controllers CGROUP: one by one, so that a refusal costs that one controller and no more
# (https://github.com/docker-library/docker/issues/308).
enable_controllers() {
	refused=''
	read -r controllers <"$1/cgroup.controllers" || controllers=''
	for controller in $controllers; do
		{ echo "+$controller" >"$1/cgroup.subtree_control"; } 2>/dev/null || refused="$refused $controller"
	done
	[ -z "$refused" ] || log_warn "cgroup controllers refused by the kernel, no nested limits for:$refused"
}

# Version 1: mount the hierarchies that the kernel knows and that this container was not given.
mount_cgroup1() {
	is_mounted /sys/fs/cgroup || mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
	while IFS=: read -r _ controllers _; do
		[ -n "$controllers" ] || continue
		folder=/sys/fs/cgroup/${controllers#name=}
		! is_mounted "$folder" || continue
		case "$controllers" in
			name=*) kind=none,$controllers ;;
			*) kind=$controllers ;;
		esac
		mkdir -p "$folder"
		mount -t cgroup -o "$kind" cgroup "$folder" 2>/dev/null || {
			rmdir "$folder"
			log_warn "the cgroup hierarchy $controllers cannot be mounted."
		}
	done </proc/self/cgroup
}

# Version 1 with the host's whole tree in view (a hierarchy mounted at its root): stay below our own path.
nest_cgroup1() {
	while IFS=: read -r _ controllers path; do
		[ "$controllers" != memory ] || break
	done </proc/self/cgroup
	[ "$controllers:$path" != memory:/ ] || return 0
	while read -r _ _ _ root folder _; do
		[ "$folder $root" != '/sys/fs/cgroup/memory /' ] || setting auto-string cgroup-parent "$path"
	done </proc/self/mountinfo
}
