# shellcheck shell=sh
# Is there a daemon in this container, or one on its way?

# runs NAME: the kernel keeps 15 bytes of it. Not by /proc/1/cmdline: an init there names the entrypoint of a client, too,
# long after that has become the client's command.
runs() {
	for process in /proc/[0-9]*; do
		read -r name <"$process/comm" && [ "$name" = "$1" ] && return
	done 2>/dev/null
	return 1
}

runs_dockerd() { runs dockerd; }

runs_entrypoint() { runs dockerd-entrypo; }

# end_child PROCESS: one of our own in the background, and wait for its end. By force: a shell that was forked a moment
# ago takes any other signal for its parent's, and loses it.
end_child() {
	kill -KILL "$1" 2>/dev/null || :
	while kill -0 "$1" 2>/dev/null; do wait "$1" 2>/dev/null || :; done # the shell would say `Killed`
}

# sign_state: say which container's daemon it is that has its state in STATE. /run may be shared with others.
sign_state() { own_namespace >"$STATE/owner"; }

# own_state: put into STATE the folder of this container's own daemon; fail where there is none.
own_state() {
	for STATE in /run/dind "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/dind"; do
		if [ -s "$STATE/listeners" ] && [ "$(cat "$STATE/owner" 2>/dev/null)" = "$(own_namespace)" ]; then
			return 0
		fi
	done
	return 1
}

# own_namespace: of mounts, which no two containers share, however much else they do. A rootless daemon is in one of
# rootlesskit's making, and has to go by the processes that it shares with its user's shells.
own_namespace() {
	case "$STATE" in
		/run/dind) readlink /proc/self/ns/mnt ;;
		*) readlink /proc/self/ns/pid ;;
	esac
}

# has_feature: was a devcontainer feature put on top that brings a daemon, or the way to one? Both start by this file.
has_feature() { [ -e /usr/local/share/docker-init.sh ]; }

# brings_daemon: is it docker-in-docker? docker-outside-of-docker starts none.
brings_daemon() { [ -e /usr/local/share/docker-init.sh ] && grep -qs dockerd /usr/local/share/docker-init.sh; }

# shellcheck disable=SC2034 # read by others
NOT_BOTH="this image has a Docker daemon, and the devcontainer feature docker-in-docker on top of it brings another: \
not both. Leave the feature out."
