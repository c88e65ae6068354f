# shellcheck shell=sh
# The data root: one daemon at a time, and a file system that can carry overlay mounts.

# claim_data_root: hold a lock on file descriptor 9 for as long as this shell lives. Whatever runs in the background closes
# it: a program by `9>&-`, a function as `{ function; } 9>&-`, since for a function alone dash keeps a copy of it.
claim_data_root() {
	configured data-root "$DEFAULT_DATA_ROOT"
	DATA_ROOT=$ANSWER
	[ -d "$DATA_ROOT" ] || mkdir -p "$DATA_ROOT" || die "the data root $DATA_ROOT cannot be made."
	lock=$DATA_ROOT/.dind.lock
	# Real bytes, since an empty file can be made on a full disk.
	{ printf '%65536s' '' >"$lock"; } 2>/dev/null || {
		failure=$({ head -c 65536 /dev/zero >"$lock"; } 2>&1) || :
		die "the data root $DATA_ROOT takes no data (${failure##*: }): free some space, or mount another volume there."
	}
	exec 9>"$lock"
	flock --nonblock --conflict-exit-code 75 9 || case $? in
		75) die "another daemon is using the data root $DATA_ROOT: two would destroy each other's data." \
			'Stop the other container, or give this one a volume of its own.' ;;
		*) log_warn "no lock can be had on $DATA_ROOT: see to it yourself that no other daemon uses it." ;;
	esac
}

# check_overlay: mount one, as dockerd will, unless another driver was asked for. Where it cannot be had
# dockerd would quietly take vfs, which copies every layer whole (https://github.com/moby/moby/issues/42171).
check_overlay() {
	configured storage-driver "${DOCKER_DRIVER:-}"
	case "$ANSWER" in
		'' | overlay*) ;;
		*) return 0 ;;
	esac
	probe=$DATA_ROOT/.dind.overlay
	[ ! -e "$probe" ] || rm -rf "$probe" # of a start that was killed here
	mkdir -p "$probe/lower" "$probe/upper" "$probe/work" "$probe/merged"
	: >"$probe/lower/file"
	verdict=0
	failure=$(mount -t overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" \
		overlay "$probe/merged" 2>&1 && rm "$probe/merged/file" 2>&1) || verdict=1
	{
		umount "$probe/merged" 2>/dev/null || : # takes its time
		rm -rf "$probe"
	} 9>&- &
	[ "$verdict" -ne 0 ] || return 0
	! can_overlay_in_user_space || {
		setting auto-string storage-driver fuse-overlayfs
		log_info "storage: fuse-overlayfs, since the kernel mounts no overlay on $DATA_ROOT (${failure%%"$NEWLINE"*})."
		return
	}
	die "no overlay can be mounted on the data root $DATA_ROOT, which lies on" \
		"$(stat --file-system --format %T "$DATA_ROOT") (${failure%%"$NEWLINE"*}). Mount a volume there:" \
		"docker run -v docker-data:$DATA_ROOT …, or an emptyDir; or ask for DIND_STORAGE_DRIVER=vfs, slow and large."
}

# can_overlay_in_user_space: slower than the kernel's, and there for those who may not mount its own.
can_overlay_in_user_space() { rootless && [ -w /dev/fuse ] && command -v fuse-overlayfs >/dev/null; }
