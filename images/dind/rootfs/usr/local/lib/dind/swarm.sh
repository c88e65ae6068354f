# shellcheck shell=sh
# A swarm from the start: DIND_SWARM=init, or =join with DIND_SWARM_TOKEN and DIND_SWARM_ADDRESS (host:port of a
# manager). A node that is in a swarm already stays as it is.

check_swarm() {
	case "${DIND_SWARM:-}" in
		'' | init) ;;
		join)
			[ "${DIND_SWARM_TOKEN:+token} ${DIND_SWARM_ADDRESS:+address}" = 'token address' ] ||
				die 'DIND_SWARM=join needs DIND_SWARM_TOKEN and DIND_SWARM_ADDRESS (host:port of a manager).'
			;;
		*) die "DIND_SWARM: '$DIND_SWARM' is neither init nor join." ;;
	esac
	# Of several addresses dockerd will not choose one. Asked for now, while there are no bridges of nested networks.
	[ -z "${DIND_SWARM:-}" ] || own_address
}

# start_swarm: in the background, once the daemon answers; a swarm that cannot be had ends the daemon.
start_swarm() {
	[ -n "${DIND_SWARM:-}" ] || return 0
	enter_swarm &
}

enter_swarm() {
	trap - TERM INT QUIT HUP
	while read -r DOCKER_HOST _; do
		[ "${DOCKER_HOST#unix:}" = "$DOCKER_HOST" ] || break
	done <"$STATE/listeners"
	export DOCKER_HOST
	await_answer || return 0
	case "$(docker info --format '{{.Swarm.LocalNodeState}}')" in
		inactive) ;;
		*)
			log_info 'swarm: a member already, and stays as it was.'
			: >"$STATE/swarm"
			return
			;;
	esac
	set -- --advertise-addr "${DIND_SWARM_ADVERTISE:-$ADDRESS}"
	case "$DIND_SWARM" in
		init) set -- init "$@" ;;
		join) set -- join "$@" --token "$DIND_SWARM_TOKEN" "$DIND_SWARM_ADDRESS" ;;
	esac
	if failure=$(docker swarm "$@" 2>&1 >/dev/null); then
		log_info "swarm: $DIND_SWARM done."
		: >"$STATE/swarm"
	else
		printf 'dind: error: DIND_SWARM=%s: %s\n' "$DIND_SWARM" "$failure" >&2
		: >"$STATE/failed"
		kill -TERM "$$"
	fi
}

# await_answer: until the daemon answers, or is gone.
await_answer() {
	until docker version >/dev/null 2>&1; do
		kill -0 "$DOCKERD" 2>/dev/null || return 1
		sleep 0.1
	done
}
