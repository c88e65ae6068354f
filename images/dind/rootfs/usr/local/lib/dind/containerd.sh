# shellcheck shell=sh
# containerd, started ahead of dockerd. dockerd's own way is to start it, find nobody listening yet, and sleep a
# whole second before it looks again (gRPC's first back-off,
# https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md): more than half of its time to get ready.

LONG=60 # seconds after which its end is no sequel of the one before

# start_containerd: in the background, unless the user has one or dockerd must choose its folders itself.
start_containerd() {
	for key in containerd userns-remap; do
		configured "$key" ''
		[ -z "$ANSWER" ] || return 0
	done
	[ ! -S /run/containerd/containerd.sock ] || return 0
	CONTAINERD_SOCKET=$EXEC_ROOT/containerd/containerd.sock
	mkdir -p "$EXEC_ROOT/containerd"
	# The folders are those that dockerd gives its own. aufs calls modprobe, opt makes /opt/containerd; Docker needs none
	# of these, nor cri, nor the sandboxes of pods that cri asks for. A file of an older form is warned of.
	containerd_version
	case "$FOUND" in
		1.* | v1.*) form=2 ;;
		*) form=3 ;;
	esac
	cat >"$STATE/containerd.toml" <<-TOML
		version = $form
		root = "$DATA_ROOT/containerd/daemon"
		state = "$EXEC_ROOT/containerd/daemon"
		disabled_plugins = [
		  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
		  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt",
		  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.grpc.v1.sandbox-controllers",
		]
		[grpc]
		address = "$CONTAINERD_SOCKET"
		[debug]
		address = "$EXEC_ROOT/containerd/containerd-debug.sock"
	TOML
	configured log-level warn
	{ keep_containerd "$ANSWER"; } 9>&- &
	CONTAINERD=$!
	option "--containerd=$CONTAINERD_SOCKET"
}

# keep_containerd LOG-LEVEL: run it, and run it again if it dies: nested containers outlive that, and so does dockerd.
keep_containerd() {
	leaving='' child=''
	trap 'leave TERM' TERM
	trap 'leave KILL' USR1
	trap '' INT
	deaths=0
	while :; do
		uptime
		started=$UPTIME
		# In a session of its own: a terminal's Ctrl-C must not end it before dockerd has stopped the containers.
		setsid containerd --config "$STATE/containerd.toml" --log-level "$1" &
		child=$!
		[ -z "$leaving" ] || leave "$leaving"
		echo "$child" >"$STATE/containerd.pid"
		code=0
		wait "$child" 2>/dev/null || code=$?
		while kill -0 "$child" 2>/dev/null; do wait "$child" 2>/dev/null || code=$?; done
		[ -z "$leaving" ] || exit 0
		uptime
		[ $((UPTIME - started)) -lt "$LONG" ] || deaths=0
		deaths=$((deaths + 1))
		[ "$deaths" -lt 5 ] || break
		log_warn "containerd ended with exit code $code; starting it again."
		sleep 0.2
	done
	log_warn "containerd ends again and again (exit code $code); stopping the daemon."
	: >"$STATE/failed"
	kill -TERM "$$"
}

leave() {
	leaving=$1
	[ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null || :
}

# uptime: of the machine, in whole seconds, into UPTIME.
uptime() {
	read -r UPTIME _ </proc/uptime
	UPTIME=${UPTIME%.*}
}

# await_containerd: until its socket is there; at most some 15 s, then dockerd says what is wrong. dockerd would
# look every 10 ms itself, but without this one start in fifty of version 26 took a second more.
await_containerd() {
	[ -n "$CONTAINERD" ] || return 0
	tries=0
	while [ ! -S "$CONTAINERD_SOCKET" ] && [ "$tries" -lt 1500 ] && kill -0 "$CONTAINERD" 2>/dev/null; do
		sleep 0.01
		tries=$((tries + 1))
	done
}

# stop_containerd [USR1]: in order, and by force after some 3 s; with USR1 at once, for a start that has failed: what
# containerd says to that is not what the user must read.
stop_containerd() {
	[ -n "$CONTAINERD" ] || return 0
	kill -s "${1:-TERM}" "$CONTAINERD" 2>/dev/null || return 0
	{
		sleep 3
		kill -KILL "$(cat "$STATE/containerd.pid")" 2>/dev/null
	} 9>&- &
	limit=$!
	while kill -0 "$CONTAINERD" 2>/dev/null; do wait "$CONTAINERD" 2>/dev/null || :; done
	end_child "$limit"
}
