# shellcheck shell=sh
# Certificates for the daemon and its clients, in DOCKER_TLS_CERTDIR: ca/{key,cert}.pem, and {key,csr,cert,ca}.pem
# in server/ and client/. P-256 keys: three of RSA-4096 cost seconds (https://github.com/docker-library/docker/issues/294).

CERTIFICATE_DAYS=825 # more is refused by some clients: https://github.com/FiloSottile/mkcert/issues/174

# make_certificates FOLDER: keys that exist are kept; certificates are signed anew, since addresses may have changed.
make_certificates() {
	if [ -s "$1/server/ca.pem" ] && [ -s "$1/server/cert.pem" ] && [ -s "$1/server/key.pem" ] &&
		[ ! -s "$1/ca/key.pem" ]; then
		check_certificates "$1/server"
		return
	fi
	[ -s "$1/ca/key.pem" ] || [ ! -s "$1/ca/cert.pem" ] ||
		die "$1/ca/cert.pem is there without its key, so nothing can be signed: add $1/ca/key.pem," \
			"or give server/{ca,cert,key}.pem, or remove ca/ to have all of it made."
	names=$(server_names) || exit 1
	for folder in "$1/ca" "$1/server" "$1/client"; do
		mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] && continue
		die "certificates cannot be written to $1: mount it writable, or set DOCKER_TLS_CERTDIR to another folder."
	done
	make_authority "$1/ca"
	make_pair "$1" server "$(printf '%s\n' 'extendedKeyUsage = serverAuth' "subjectAltName = $names")" &
	server=$!
	make_pair "$1" client 'extendedKeyUsage = clientAuth' || die "the client's certificate could not be made."
	wait "$server" || die "the server's certificate could not be made; are all names in DOCKER_TLS_SAN good?"
	# Clients that are not root read it from a shared volume.
	chmod 0644 "$1/client/key.pem"
	CERTIFICATE_NAMES=$names
}

# server_names: every address of ours, our own names, what clients call us by custom, and DOCKER_TLS_SAN.
server_names() {
	{
		ip -oneline address | while read -r _ _ _ address _; do echo "IP:${address%%/*}"; done
		for name in "$(cat /etc/hostname)" docker localhost "$(hostname -f 2>/dev/null)" "$(hostname -s 2>/dev/null)"; do
			# A trailing dot is refused: https://github.com/moby/moby/issues/51367
			name=${name%.}
			[ -z "$name" ] || echo "DNS:$name"
		done
		for name in $(echo "${DOCKER_TLS_SAN:-}" | tr ',' ' '); do
			name=${name%.}
			case "$name" in
				*[!0-9A-Za-z:._*@/-]*) die "DOCKER_TLS_SAN: '$name' is neither a name nor an address." ;;
				DNS:?* | IP:?* | URI:?* | email:?* | RID:?*) echo "$name" ;;
				*) if is_address "$name"; then
					echo "IP:$name"
				else
					case "$name" in
						*:*) die "DOCKER_TLS_SAN: '$name' is neither a name nor an address." ;;
					esac
					echo "DNS:$name"
				fi ;;
			esac
		done
	} | sort -u | paste -s -d , -
}

# make_authority FOLDER: a key unless there is one, and a certificate unless the one there is of that key and lasts.
make_authority() {
	new_key "$1/key.pem"
	if [ -s "$1/cert.pem" ] && openssl x509 -in "$1/cert.pem" -noout -checkend 2592000 >/dev/null 2>&1 &&
		same_key "$1"; then
		return
	fi
	openssl req -new -x509 -key "$1/key.pem" -out "$1/cert.pem.new" -days "$CERTIFICATE_DAYS" \
		-subj '/CN=docker:dind CA' 2>/dev/null || die "the certificate authority in $1 could not be made."
	mv "$1/cert.pem.new" "$1/cert.pem"
}

# make_pair FOLDER server|client EXTENSIONS: each file gets its name only when it is whole: clients are waiting for it.
make_pair() {
	folder=$1/$2
	new_key "$folder/key.pem"
	openssl req -new -key "$folder/key.pem" -out "$folder/csr.pem" -subj "/CN=docker:dind $2" &&
		echo "$3" | openssl x509 -req -in "$folder/csr.pem" -out "$folder/cert.pem.new" -days "$CERTIFICATE_DAYS" \
			-CA "$1/ca/cert.pem" -CAkey "$1/ca/key.pem" -extfile /dev/stdin 2>"$STATE/openssl.$2" || return 1
	cp "$1/ca/cert.pem" "$folder/ca.pem.new"
	mv "$folder/ca.pem.new" "$folder/ca.pem"
	mv "$folder/cert.pem.new" "$folder/cert.pem"
}

# new_key FILE: unless it is there; readable by its owner alone.
new_key() {
	[ -s "$1" ] || (
		umask 077
		openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.new" 2>/dev/null && mv "$1.new" "$1"
	)
}

# same_key FOLDER: is cert.pem made of key.pem?
same_key() {
	[ "$(openssl x509 -in "$1/cert.pem" -noout -pubkey 2>&1)" = "$(openssl pkey -in "$1/key.pem" -pubout 2>/dev/null)" ]
}

# check_certificates FOLDER: those that the user brought, and that dockerd would stumble over later.
check_certificates() {
	failure=$(openssl verify -CAfile "$1/ca.pem" "$1/cert.pem" 2>&1) ||
		die "$1/cert.pem is not signed by $1/ca.pem: $(echo "$failure" | grep -m 1 '^error' || echo "$failure")."
	same_key "$1" || die "$1/cert.pem and $1/key.pem do not belong together."
	# shellcheck disable=SC2034 # read by listen
	CERTIFICATE_NAMES="those of $1/cert.pem"
}
