# shellcheck shell=sh
# Where the daemon listens.

# listen: docker:dind's own choice of sockets and TLS. What the user's daemon.json names is left to it.
listen() {
	if lookup "$FILE" hosts; then
		log_info "listening where \"hosts\" in $DAEMON_JSON says."
		return
	fi
	case "${DOCKER_HOST:-}" in
		unix://*) ;;
		*) DOCKER_HOST=unix://$SOCKET ;;
	esac
	option "--host=$DOCKER_HOST"
	if ! tls_is_off && file_names_tls; then
		# Certificates alone do not make dockerd use them.
		has_tls || option --tlsverify
		listen_on_port 2376
		log_info "listening on $DOCKER_HOST and $ANSWER, with TLS as $DAEMON_JSON says."
	elif [ -n "${DOCKER_TLS_CERTDIR:-}" ] && ! tls_is_off; then
		make_certificates "$DOCKER_TLS_CERTDIR"
		listen_on_port 2376
		option --tlsverify
		option "--tlscacert=$DOCKER_TLS_CERTDIR/server/ca.pem"
		option "--tlscert=$DOCKER_TLS_CERTDIR/server/cert.pem"
		option "--tlskey=$DOCKER_TLS_CERTDIR/server/key.pem"
		log_info "listening on $DOCKER_HOST and $ANSWER, TLS with client certificates;" \
			"certificate for $CERTIFICATE_NAMES."
	else
		listen_without_tls
		log_info "listening on $DOCKER_HOST and $ANSWER without TLS:" \
			'whoever reaches that port is root in this container.'
	fi
}

# dockerd sleeps 1 s for a tcp:// host without TLS, and 15 s more unless told --tls=false. A socket that it is
# handed (sd_listen_fds(3)) costs neither. DOCKER_TLS_VERIFY in the environment would undo --tls=false.
# https://github.com/docker-library/docker/issues/312
listen_without_tls() {
	unset DOCKER_TLS_VERIFY
	lookup "$FILE" tls || option --tls=false # one or the other: dockerd takes no key twice
	listen_on_port 2375
}

# listen_on_port PORT: on every address, unless the user's own --host names the port, which can be had only once.
# ANSWER is the address then.
listen_on_port() {
	while IFS=$TAB read -r key ANSWER; do
		case "$key $ANSWER" in
			"host tcp://"*":$1") return ;;
		esac
	done <<-TABLE
		$ARGUMENTS
	TABLE
	ANSWER=tcp://0.0.0.0:$1
	if [ "$1" = 2375 ]; then
		option --host=fd://
		HANDED_PORT=$1
	else
		option "--host=$ANSWER"
	fi
}

# tls_is_off: did the user say so, by argument or in daemon.json?
tls_is_off() {
	! lookup "$ARGUMENTS" tlsverify && ! lookup "$FILE" tlsverify &&
		{ lookup "$ARGUMENTS" tls || lookup "$FILE" tls; } && [ "$ANSWER" = false ]
}

file_names_tls() {
	for key in tls tlsverify tlscacert tlscert tlskey; do
		! lookup "$FILE" "$key" || return 0
	done
	return 1
}

# record_listeners: for dind-health, every address that was asked for, one per line, and `tls` where TCP has it.
record_listeners() {
	hosts=''
	while IFS=$TAB read -r key value; do
		[ "$key" != host ] || hosts="$hosts $value"
	done <<-TABLE
		$ARGUMENTS
	TABLE
	for word in $OPTIONS; do
		case "$word" in
			--host=fd://) hosts="$hosts tcp://0.0.0.0:$HANDED_PORT" ;;
			--host=*) hosts="$hosts ${word#--host=}" ;;
		esac
	done
	! lookup "$FILE" hosts || hosts="$hosts $(jq -r '.hosts[]' "$DAEMON_JSON")"
	has_tls && tls=' tls' || tls=''
	for host in ${hosts:-unix://$SOCKET}; do
		case "$host" in
			tcp:*) echo "$host$tls" ;;
			*) echo "$host" ;;
		esac
	done >"$STATE/listeners"
}

# has_tls: by dockerd's rules, where --tlsverify means TLS whatever its value.
has_tls() {
	case "$NEWLINE$OPTIONS" in
		*"$NEWLINE--tlsverify$NEWLINE"*) return 0 ;;
	esac
	lookup "$ARGUMENTS" tlsverify || lookup "$FILE" tlsverify ||
		{ { lookup "$ARGUMENTS" tls || lookup "$FILE" tls; } && [ "$ANSWER" = true ]; }
}
