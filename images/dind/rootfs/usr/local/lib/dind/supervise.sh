# shellcheck shell=sh
# dockerd from start to end: signals, and a stop that takes a bounded time.

STOP_TIMEOUT=${DIND_STOP_TIMEOUT:-1.5} # seconds that nested containers get: `docker stop` gives us all 10

# supervise ARGUMENT…: run dockerd until it ends, and end with its exit code.
supervise() {
	stopping='' limit='' AFTER_START=''
	trap 'interrupted=yes; stop' TERM INT QUIT
	trap 'interrupted=yes; reload' HUP
	await_containerd
	run_dockerd "$@"
	[ -z "$stopping" ] || kill -TERM "$DOCKERD"
	start_marking
	run_after_start
	await_dockerd
	[ -z "$limit" ] || end_child "$limit"
	[ -z "$AFTER_START" ] || end_child "$AFTER_START"
	stop_marking
	stop_containerd
	[ ! -e "$STATE/failed" ] || code=1
	rm -rf "$STATE"
	exit "$code"
}

# run_dockerd ARGUMENT…: in the background; by the process that holds its sockets, where there is one, and then without
# the user's own --host.
run_dockerd() {
	left=$#
	[ -n "$HOLDER" ] || left=0
	while [ "$left" -gt 0 ]; do
		word=$1
		shift
		left=$((left - 1))
		case "$word" in
			-H | --host) [ "$left" -eq 0 ] || { shift && left=$((left - 1)); } ;;
			-H?* | --host=*) ;;
			*) set -- "$@" "$word" ;;
		esac
	done
	set -f
	IFS=$NEWLINE
	# shellcheck disable=SC2086 # one option per line
	set -- dockerd $OPTIONS "$@" ${CONFIG_FILE:+"--config-file=$CONFIG_FILE"}
	unset IFS
	set +f
	if [ -n "$HOLDER" ]; then
		printf '%s\0' "$PATH" "$@" >"$STATE/command.new"
		mv "$STATE/command.new" "$STATE/command"
		DOCKERD=$HOLDER
	else
		setsid "$@" 9>&- & # as containerd
		DOCKERD=$!
	fi
}

# await_dockerd: into `code` what it ends with. A signal ends `wait` early, with a code of its own. dockerd may have ended by
# then, and not be there to be asked, but another `wait` still tells its code, unless the first has (127).
await_dockerd() {
	code=127 interrupted=yes
	while [ -n "$interrupted" ]; do
		interrupted='' told=0
		wait "$DOCKERD" || told=$?
		[ "$told" -eq 127 ] || code=$told
	done
	[ -n "$stopping" ] || [ "$code" -lt 128 ] || log_warn "dockerd was killed (exit code $code)."
}

# reload: dockerd reads the file that it was pointed at anew, so what the user has changed must get there first.
reload() {
	if [ -z "$DOCKERD" ]; then
		return
	elif [ -z "$CONFIG_FILE" ] || merge_daemon_json; then
		kill -HUP "$DOCKERD"
	else
		log_warn "$FAILURE. The settings stay as they are."
	fi
}

# stop: dockerd itself tells its containers to end, and records how they did. Those that will not are killed from
# outside after our own bound: dockerd's is 15 s and more, and `docker stop` would kill us all after 10.
# https://github.com/docker-library/docker/issues/320
stop() {
	[ -z "$stopping" ] || return 0
	stopping=yes
	rm -f "$STATE/unfinished" # what is still under way must fail now, and that is no failure
	[ -n "$DOCKERD" ] || return 0
	kill -TERM "$DOCKERD" 2>/dev/null || return 0
	{
		sleep "$STOP_TIMEOUT"
		kill_nested
		sleep 15
		log_warn 'dockerd does not end; killing it.'
		kill -KILL "$DOCKERD"
	} 9>&- &
	limit=$!
}

# kill_nested: the first process of every nested container, that is the children of containerd's shims. Our own shims
# share our mounts; with `--pid=host` those of the host's containers are in sight, too.
kill_nested() {
	ours=$(readlink /proc/self/ns/mnt)
	for process in /proc/[0-9]*; do
		read -r name <"$process/comm" || continue
		[ "$name" = containerd-shim ] || continue
		[ "$(readlink "$process/ns/mnt")" = "$ours" ] || continue
		# shellcheck disable=SC2046 # process ids
		kill -KILL $(cat "$process"/task/*/children) || :
	done 2>/dev/null
}
