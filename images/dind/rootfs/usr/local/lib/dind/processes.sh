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
