# shellcheck shell=sh
# What a killed container leaves in its own writable layer, and a new start must not take for the living.

# remove_leftovers: each by its exact path. Nothing here is touched while a dockerd runs in this container.
remove_leftovers() {
	configured exec-root "$RUN/docker"
	EXEC_ROOT=$ANSWER
	configured pidfile "$RUN/docker.pid"
	pidfile=$ANSWER pid='' name=''
	[ ! -e "$pidfile" ] || read -r pid <"$pidfile" || :
	[ ! -e "/proc/${pid:-none}/comm" ] || read -r name <"/proc/$pid/comm" || :
	[ "$name" != dockerd ] || die "dockerd is already running in this container (process $pid, from $pidfile)."
	# A pid file whose number some other process has now makes dockerd refuse or wait.
	# https://github.com/docker-library/docker/issues/104, https://github.com/moby/moby/issues/46988
	rm -f "$pidfile" "$EXEC_ROOT/containerd/containerd.pid"
	for socket in "$EXEC_ROOT/containerd/containerd.sock" /run/containerd/containerd.sock; do
		# dockerd takes the mere file for a containerd that it need not start.
		[ ! -S "$socket" ] || answers "$socket" || rm -f "$socket"
	done
	rm -rf "$STATE"
	mkdir -p "$STATE"
}

# answers SOCKET: does a process accept connections on it? (7: curl could not connect)
answers() {
	code=0
	curl --silent --output /dev/null --max-time 1 --unix-socket "$1" http://localhost/ || code=$?
	[ "$code" -ne 7 ]
}
