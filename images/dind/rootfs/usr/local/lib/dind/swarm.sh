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
}

start_swarm() {
	[ -n "${DIND_SWARM:-}" ] || return 0
	log_warn 'swarm: not yet'
}
