# shellcheck shell=sh
# What can be done only once the daemon answers: image archives are loaded, a swarm is made or joined. Until then
# dind-health says no; where it cannot be done, the daemon ends.

# run_after_start: in the background; the shell itself waits for signals.
run_after_start() {
	[ -n "${DIND_PRELOAD:-}${DIND_SWARM:-}" ] || return 0
	: >"$STATE/unfinished"
	{ finish; } 9>&- &
	# shellcheck disable=SC2034 # read by supervise
	AFTER_START=$!
}

# find_own_socket: for ourselves to ask at, into OWN_SOCKET.
find_own_socket() {
	while read -r OWN_SOCKET _; do
		case "$OWN_SOCKET" in
			unix://*) return ;;
		esac
	done <"$STATE/listeners"
	[ -z "${DIND_PRELOAD:-}${DIND_SWARM:-}" ] || die 'DIND_PRELOAD and DIND_SWARM need a daemon that listens on a' \
		'socket, too: add --host=unix:///var/run/docker.sock.'
}

finish() {
	trap - TERM INT QUIT HUP
	unset DOCKER_TLS_VERIFY DOCKER_CERT_PATH
	export DOCKER_HOST="$OWN_SOCKET"
	until docker version >/dev/null 2>&1; do
		kill -0 "$DOCKERD" 2>/dev/null || return 0
		sleep 0.1
	done
	if preload_images && enter_swarm; then
		rm "$STATE/unfinished"
	elif [ -e "$STATE/unfinished" ]; then # no stop came between
		log_error "$FAILURE"
		: >"$STATE/failed"
		kill -TERM "$$"
	fi
}

check_preload() {
	for place in ${DIND_PRELOAD:-}; do
		[ -r "$place" ] || die "DIND_PRELOAD: $place is not there, or cannot be read."
	done
}

# preload_images: every archive once per data root; one that has changed is loaded again. What fails is in FAILURE.
preload_images() {
	known=$DATA_ROOT/.dind.preloaded
	for place in ${DIND_PRELOAD:-}; do
		for archive in "$place" "$place"/*.tar "$place"/*.tar.*; do
			[ -f "$archive" ] || continue
			stamp=$(stat --format '%s %Y %n' "$archive")
			! grep --quiet --line-regexp --fixed-strings "$stamp" "$known" 2>/dev/null || continue
			FAILURE=$(docker load --quiet --input "$archive" 2>&1) || {
				FAILURE="DIND_PRELOAD: $archive: $FAILURE"
				return 1
			}
			log_info "preloaded $archive."
			echo "$stamp" >>"$known"
		done
	done
}
