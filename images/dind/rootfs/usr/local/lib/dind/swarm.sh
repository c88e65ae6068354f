# shellcheck shell=sh
# A swarm from the start: DIND_SWARM=init, or =join with DIND_SWARM_TOKEN and DIND_SWARM_ADDRESS (host:port of a
# manager). A node that is in a swarm already stays as it is.

check_swarm() {
	case "${DIND_SWARM:-}" in
		'') return ;;
		init) ;;
		join)
			[ "${DIND_SWARM_TOKEN:+token} ${DIND_SWARM_ADDRESS:+address}" = 'token address' ] ||
				die 'DIND_SWARM=join needs DIND_SWARM_TOKEN and DIND_SWARM_ADDRESS (host:port of a manager).'
			;;
		*) die "DIND_SWARM: '$DIND_SWARM' is neither init nor join." ;;
	esac
	# Of several addresses dockerd will not choose one. Asked for now, while there are no bridges of nested networks.
	own_address
}

# enter_swarm: what fails is in FAILURE.
enter_swarm() {
	[ -n "${DIND_SWARM:-}" ] || return 0
	if [ "$(docker info --format '{{.Swarm.LocalNodeState}}')" != inactive ]; then
		log_info 'swarm: a member already, and stays as it was.'
		return
	fi
	set -- --advertise-addr "${DIND_SWARM_ADVERTISE:-$ADDRESS}"
	case "$DIND_SWARM" in
		init) set -- init "$@" ;;
		join) set -- join "$@" --token "$DIND_SWARM_TOKEN" "$DIND_SWARM_ADDRESS" ;;
	esac
	FAILURE=$(docker swarm "$@" 2>&1 >/dev/null) || {
		FAILURE="DIND_SWARM=$DIND_SWARM: $FAILURE"
		return 1
	}
	log_info "swarm: $DIND_SWARM done."
}
