# shellcheck shell=sh
# Where the daemon listens.

# choose_listeners STANDARD: every address that the daemon is to be found at, one per line, into LISTENERS. STANDARD is
# docker:dind's own choice of a socket and a port, unless the user's daemon.json has `hosts`, or the user's own --host
# names the port, which can be had only once.
choose_listeners() {
	LISTENERS='' OWN_LISTENERS=''
	if lookup "$FILE" hosts; then
		LISTENERS=$(jq -r '.hosts[]?' "$DAEMON_JSON")$NEWLINE
		return
	fi
	if [ -n "$1" ]; then
		case "${DOCKER_HOST:-}" in
			unix://*) ;;
			*) DOCKER_HOST=unix://$SOCKET ;;
		esac
		# DOCKER_TLS_VERIFY in dockerd's environment would turn TLS on.
		if wants_tls; then port=2376; else port=2375 && unset DOCKER_TLS_VERIFY; fi
		named_port "$port" || ANSWER=tcp://0.0.0.0:$port
		PORT_ADDRESS=$ANSWER
		OWN_LISTENERS=$DOCKER_HOST$NEWLINE
		named_port "$port" || OWN_LISTENERS=$OWN_LISTENERS$PORT_ADDRESS$NEWLINE
		LISTENERS=$OWN_LISTENERS
	fi
	while IFS=$TAB read -r key value; do
		[ "$key" != host ] || add_listener "$value"
	done <<-TABLE
		$ARGUMENTS
	TABLE
	[ -n "$LISTENERS" ] || add_listener "unix://$SOCKET"
}

# named_port PORT: does the user's own --host name it? Then as ANSWER.
named_port() {
	while IFS=$TAB read -r key ANSWER; do
		case "$key $ANSWER" in
			"host tcp://"*":$1") return ;;
		esac
	done <<-TABLE
		$ARGUMENTS
	TABLE
	return 1
}

# add_listener ADDRESS: in the forms that dockerd takes, and once.
add_listener() {
	case "$1" in
		unix://) set -- "unix://$SOCKET" ;;
		*://*) ;;
		*) set -- "tcp://$1" ;;
	esac
	case "$NEWLINE$LISTENERS" in
		*"$NEWLINE$1$NEWLINE"*) ;;
		*) LISTENERS=$LISTENERS$1$NEWLINE ;;
	esac
}

# open_sockets: before anything that takes time. Nobody who asks early is refused then, as while dockerd starts by
# itself; and dockerd does not wait, as it does 16 s before it opens a port without TLS.
# https://github.com/docker-library/docker/issues/312
open_sockets() {
	trap give_up_start EXIT
	trap 'exit 143' TERM INT
	if can_be_handed; then
		configured group docker
		# shellcheck disable=SC2086 # addresses are words
		setsid perl "$LIBRARY/listen.pl" "$STATE/command" "$ANSWER" $LISTENERS 9>&- &
		HOLDER=$!
		option --host=fd://
		! lookup "$FILE" hosts || setting drop hosts ''
	else
		for address in $OWN_LISTENERS; do option "--host=$address"; done
	fi
}

# is_untouched: is there nothing yet of what a start makes? Then, in the first process of a container, nobody is beside us
# whose sockets these could be.
is_untouched() {
	can_be_handed || return 1
	for path in "$STATE" "$SOCKET" $LISTENERS; do
		[ ! -e "${path#unix://}" ] || return 1
	done
}

# can_be_handed: where there are sockets from outside already, or addresses that only dockerd knows what to do with, all
# of it is dockerd's business; and so is the mistake to have hosts in daemon.json and among the arguments.
can_be_handed() {
	[ -z "${LISTEN_FDS:-}" ] || return 1
	! { lookup "$FILE" hosts && lookup "$ARGUMENTS" host; } || return 1
	for address in $LISTENERS; do
		case "$address" in
			unix:///* | tcp://*:[0-9]*) ;;
			*) return 1 ;;
		esac
	done
}

give_up_start() {
	[ -z "$CERTIFICATES" ] || end_child "$CERTIFICATES"
	stop_containerd USR1
	[ -z "$HOLDER" ] || kill -KILL "$HOLDER" 2>/dev/null || :
	remove_sockets
}

# remove_sockets: dockerd leaves the files of those that it was handed.
remove_sockets() {
	[ -n "$HOLDER" ] || return 0
	for address in $LISTENERS; do
		case "$address" in
			unix:*) rm -f "${address#unix://}" ;;
		esac
	done
}

# choose_tls: the TLS that docker:dind gives a daemon whose listeners are its own, and certificates, which are made while
# all else goes on. What is to be said once it listens is in ANNOUNCEMENT.
choose_tls() {
	ANNOUNCEMENT=''
	if [ -z "$OWN_LISTENERS" ]; then
		[ -z "$standard_listeners" ] || ANNOUNCEMENT="listening where \"hosts\" in $DAEMON_JSON says."
		! has_tls || provide_certificates
	elif ! wants_tls; then
		lookup "$FILE" tls || option --tls=false # one or the other: dockerd takes no key twice
		ANNOUNCEMENT="listening on $DOCKER_HOST and $PORT_ADDRESS without TLS: \
whoever reaches that port is root in this container."
	elif file_names_tls; then
		# Certificates alone do not make dockerd use them.
		has_tls || option --tlsverify
		provide_certificates
		ANNOUNCEMENT="listening on $DOCKER_HOST and $PORT_ADDRESS, with TLS as $DAEMON_JSON says."
	else
		start_certificates "$DOCKER_TLS_CERTDIR"
		option --tlsverify
		option "--tlscacert=$DOCKER_TLS_CERTDIR/server/ca.pem"
		option "--tlscert=$DOCKER_TLS_CERTDIR/server/cert.pem"
		option "--tlskey=$DOCKER_TLS_CERTDIR/server/key.pem"
		ANNOUNCEMENT="listening on $DOCKER_HOST and $PORT_ADDRESS, TLS with client certificates; certificate for"
	fi
}

# announce: once the certificates are there.
announce() {
	await_certificates
	case "$ANNOUNCEMENT" in
		'') ;;
		*' for') log_info "$ANNOUNCEMENT $CERTIFICATE_NAMES." ;;
		*) log_info "$ANNOUNCEMENT" ;;
	esac
}

# provide_certificates: where the user turned TLS on. Files that they name are theirs, unless they are those that would
# be made below DOCKER_TLS_CERTDIR. Where they name none, and there are none where dockerd looks, those are given.
provide_certificates() {
	[ -n "${DOCKER_TLS_CERTDIR:-}" ] || return 0
	named='' ours=''
	for key in tlscacert tlscert tlskey; do
		configured "$key" ''
		named=$named$ANSWER
		case "$ANSWER" in
			"$DOCKER_TLS_CERTDIR"/server/* | "$DOCKER_TLS_CERTDIR"/ca/*) ours=yes ;;
		esac
	done
	[ -n "$ours" ] || { [ -z "$named" ] && [ ! -e "${DOCKER_CERT_PATH:-${HOME:-}/.docker}/key.pem" ]; } || return 0
	start_certificates "$DOCKER_TLS_CERTDIR"
	for pair in tlscacert:ca tlscert:cert tlskey:key; do
		configured "${pair%:*}" ''
		if [ -n "$ANSWER" ]; then
			continue
		elif file_names_tls; then # dockerd forgets the flags then
			setting auto-string "${pair%:*}" "$DOCKER_TLS_CERTDIR/server/${pair#*:}.pem"
		else
			option "--${pair%:*}=$DOCKER_TLS_CERTDIR/server/${pair#*:}.pem"
		fi
	done
}

wants_tls() {
	! tls_is_off && { [ -n "${DOCKER_TLS_CERTDIR:-}" ] || file_names_tls; }
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
	has_tls && tls=' tls' || tls=''
	for address in $LISTENERS; do
		case "$address" in
			tcp:*)
				[ -n "$tls$OWN_LISTENERS" ] ||
					log_info "listening on $address without TLS: whoever reaches that port is root in this container."
				echo "$address$tls"
				;;
			*) echo "$address" ;;
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
