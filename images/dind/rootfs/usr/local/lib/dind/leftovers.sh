# shellcheck shell=sh
# What a killed container leaves behind, and a new start must not take for the living.

# clear_stale_files: before the command is looked at, which may be `sh -c "… exec dockerd …"`. Only what nobody stands
# behind, and only in this container's own layer: a mounted /var/run may be shared with a daemon that lives elsewhere.
clear_stale_files() {
	[ -w "$RUN" ] || return 0
	# dockerd takes its own number in the file for another's. https://github.com/docker-library/docker/issues/105
	for name in dockerd:docker.pid containerd:docker/containerd/containerd.pid; do
		file=$RUN/${name#*:}
		[ ! -e "$file" ] || names_process "$file" "${name%%:*}" || ! in_own_layer "$file" || rm -f "$file"
	done
	# shellcheck disable=SC2153 # set in dockerd-entrypoint.sh
	for file in "$SOCKET" "$RUN/docker/containerd/containerd.sock" /run/containerd/containerd.sock; do
		[ ! -S "$file" ] || ! in_own_layer "$file" || answers "$file" || rm -f "$file"
	done
	# Nobody is beside a first process.
	[ $$ -ne 1 ] || [ ! -e "$STATE" ] || ! in_own_layer "$STATE" || rm -rf "$STATE"
}

# names_process FILE NAME: is it a pid file of a process of that name, in this container?
names_process() {
	pid='' found=''
	[ ! -e "$1" ] || read -r pid <"$1" || :
	[ ! -e "/proc/${pid:-none}/comm" ] || read -r found <"/proc/$pid/comm" || :
	[ "$found" = "$2" ]
}

# in_own_layer PATH: on this container's root file system, and neither a mount nor below one?
in_own_layer() {
	place=$(readlink -f "$1")
	while [ -n "$place" ]; do
		! is_mounted "$place" || return 1
		place=${place%/*}
	done
}

# remove_leftovers: each by its exact path. Nothing here is touched while a dockerd runs in this container, or one that
# shares its folders.
remove_leftovers() {
	configured exec-root "$RUN/docker"
	EXEC_ROOT=$ANSWER
	configured pidfile "$RUN/docker.pid"
	pidfile=$ANSWER
	! names_process "$pidfile" dockerd ||
		die "dockerd is already running in this container (process $pid, from $pidfile)."
	if [ -z "$HOLDER" ] && [ -S "$SOCKET" ] && ! in_own_layer "$RUN" && answers "$SOCKET"; then
		die "another daemon answers at $SOCKET, in a folder that this container shares with it: give this one a" \
			"$(readlink -f "$RUN") of its own, or run only the client in it."
	fi
	# A pid file whose number some other process has now makes dockerd refuse or wait.
	# https://github.com/docker-library/docker/issues/104, https://github.com/moby/moby/issues/46988
	for file in "$pidfile" "$EXEC_ROOT/containerd/containerd.pid"; do
		[ ! -e "$file" ] || rm -f "$file"
	done
	for socket in "$EXEC_ROOT/containerd/containerd.sock" /run/containerd/containerd.sock; do
		# dockerd takes the mere file for a containerd that it need not start.
		[ ! -S "$socket" ] || answers "$socket" || rm -f "$socket"
	done
	[ ! -e "$STATE" ] || rm -rf "$STATE"
	mkdir -p "$STATE"
}

# answers SOCKET: does a process accept connections on it? (7: curl could not connect)
answers() {
	code=0
	curl --silent --output /dev/null --max-time 1 --unix-socket "$1" http://localhost/ || code=$?
	[ "$code" -ne 7 ]
}
