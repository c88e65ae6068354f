# shellcheck shell=sh
# Certificates for the daemon and its clients, in DOCKER_TLS_CERTDIR: ca/{key,cert}.pem, and {key,csr,cert,ca}.pem
# in server/ and client/. P-256 keys: three of RSA-4096 cost seconds.
# https://github.com/docker-library/docker/issues/294

CERTIFICATE_DAYS=825 # more is refused by some clients: https://github.com/FiloSottile/mkcert/issues/174
# Python 3.13 and others verify strictly, by RFC 5280, section 4.2.1: an authority without keyUsage is none to them.
AUTHORITY_USAGE='keyUsage = critical, digitalSignature, keyCertSign'

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
	{ make_authority "$1/ca"; } 9>&- &
	authority=$!
	server_names
	wait "$authority" || exit 1
	require_writable "$1/server" "$1/client"
	{ make_pair "$1" server serverAuth "subjectAltName = $NAMES"; } 9>&- &
	server=$!
	make_pair "$1" client clientAuth
	chmod 0644 "$1/client/key.pem" # clients that are not root read it from a shared volume
	wait "$server" || exit 1
	echo "$NAMES" >"$STATE/certificate.names"
	# Requests, for who wants them signed by somebody else: the daemon need not wait for them.
	{
		request "$1/server" 'docker:dind server' -out "$1/server/csr.pem"
		request "$1/client" 'docker:dind client' -out "$1/client/csr.pem"
	} 9>&- &
}

# start_certificates FOLDER: in the background. What it says is kept, so that a start ends with one message.
start_certificates() {
	{ make_certificates "$1"; } 2>"$STATE/certificates.log" 9>&- &
	CERTIFICATES=$!
}

# await_certificates: whose certificate the server's is, into CERTIFICATE_NAMES.
await_certificates() {
	[ -n "$CERTIFICATES" ] || return 0
	failed=''
	wait "$CERTIFICATES" || failed=yes
	CERTIFICATES=''
	while IFS='' read -r said; do printf '%s\n' "$said" >&2; done <"$STATE/certificates.log"
	[ -z "$failed" ] || exit 1
	# shellcheck disable=SC2034 # read by announce
	read -r CERTIFICATE_NAMES <"$STATE/certificate.names"
}

# require_writable FOLDER…: made where they are missing.
require_writable() {
	for folder; do
		{ { [ -d "$folder" ] || mkdir -p "$folder" 2>/dev/null; } && [ -w "$folder" ]; } ||
			die "certificates cannot be written to $folder: mount it writable, or set" \
				'DOCKER_TLS_CERTDIR to another folder, or to nothing for no TLS.'
	done
}

# server_names: every address of ours, our own names, what clients call us by custom, and DOCKER_TLS_SAN, into NAMES.
server_names() {
	NAMES=''
	# shellcheck disable=SC2046 # words
	set -- $(own_addresses)
	read -r host </proc/sys/kernel/hostname || :
	full=$(timeout 2 hostname -f 2>/dev/null) || full=''
	for name in "$@" "DNS:${host%.}" DNS:docker DNS:localhost "DNS:${full%.}" "DNS:${host%%.*}"; do
		[ "$name" = DNS: ] || add_name "$name"
	done
	set -f
	IFS=', '
	for name in ${DOCKER_TLS_SAN:-}; do
		# A trailing dot is refused: https://github.com/moby/moby/issues/51367
		name=${name%.}
		case "$name" in
			DNS:?* | IP:?* | URI:?* | email:?* | RID:?*) ;;
			'' | *[!0-9A-Za-z._*:-]*) die "DOCKER_TLS_SAN: '$name' is neither a name nor an address." ;;
			*) if is_address "$name"; then name=IP:$name; else name=DNS:$name; fi ;;
		esac
		case "$name" in
			DNS:*[!0-9A-Za-z._*-]*) die "DOCKER_TLS_SAN: '$name' is not a host's name." ;;
			IP:*) is_address "${name#IP:}" || die "DOCKER_TLS_SAN: '$name' is not an address." ;;
		esac
		add_name "$name"
	done
	set +f
	unset IFS
}

own_addresses() {
	ip -oneline address | while read -r _ _ _ address _; do echo "IP:${address%%/*}"; done
}

# add_name NAME: unless it is there.
add_name() {
	case ",$NAMES," in
		*",$1,"*) ;;
		*) NAMES=${NAMES:+$NAMES,}$1 ;;
	esac
}

# make_authority FOLDER: a key unless there is one, and a certificate unless the one there is of that key and lasts.
make_authority() {
	if [ -s "$1/key.pem" ] && [ -s "$1/cert.pem" ] && same_key "$1" &&
		openssl x509 -in "$1/cert.pem" -noout -checkend 604800 >/dev/null 2>&1; then
		! keeps_authority "$1" || return 0
	fi
	require_writable "$1"
	request "$1" 'docker:dind CA' -x509 -days "$CERTIFICATE_DAYS" -addext "$AUTHORITY_USAGE" \
		-out "$1/cert.pem.new" || die "the certificate authority in $1 could not be made: $FAILURE"
	mv "$1/cert.pem.new" "$1/cert.pem"
}

# keeps_authority FOLDER: is its certificate to stay as it is? Not where strict clients refuse one that an earlier image
# has made: signed anew with the same key, it is the same to those who trust it already. A user's is the user's.
keeps_authority() {
	case "$(openssl x509 -in "$1/cert.pem" -noout -ext keyUsage 2>/dev/null)" in
		*'Certificate Sign'*) return 0 ;;
	esac
	if [ -w "$1" ] &&
		[ "$(openssl x509 -in "$1/cert.pem" -noout -subject -nameopt RFC2253)" = 'subject=CN=docker:dind CA' ]; then
		return 1
	fi
	warn_of_strict_clients "$1/cert.pem" 'it has no keyUsage with keyCertSign'
}

warn_of_strict_clients() {
	log_warn "clients that verify strictly, as Python's from 3.13 on, will refuse $1: $2."
}

# make_pair FOLDER server|client USAGE [EXTENSION]: each file gets its name only when it is whole: clients are waiting
# for it.
make_pair() {
	folder=$1/$2
	# Key and certificate by one process, and not by `openssl x509`, which takes twice the time of `openssl req`.
	request "$folder" "docker:dind $2" -x509 -days "$CERTIFICATE_DAYS" -CA "$1/ca/cert.pem" -CAkey "$1/ca/key.pem" \
		-config /dev/stdin -out "$folder/cert.pem.new" <<-EXTENSIONS || die "the $2's certificate could not be made: $FAILURE"
			[req]
			distinguished_name = name
			x509_extensions = extensions
			[name]
			[extensions]
			basicConstraints = CA:FALSE
			keyUsage = critical, digitalSignature
			extendedKeyUsage = $3
			subjectKeyIdentifier = hash
			authorityKeyIdentifier = keyid
			${4:-}
		EXTENSIONS
	cp "$1/ca/cert.pem" "$folder/ca.pem.new"
	mv "$folder/ca.pem.new" "$folder/ca.pem"
	mv "$folder/cert.pem.new" "$folder/cert.pem"
}

# request FOLDER NAME OPTION…: ask for a certificate with the folder's key, which is made where there is none.
request() {
	folder=$1 name=$2
	shift 2
	if [ -s "$folder/key.pem" ]; then
		FAILURE=$(openssl req -new -key "$folder/key.pem" -subj "/CN=$name" "$@" 2>&1)
		return
	fi
	(umask 077 && : >"$folder/key.pem.new")
	FAILURE=$(openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$folder/key.pem.new" \
		-subj "/CN=$name" "$@" 2>&1) && mv "$folder/key.pem.new" "$folder/key.pem"
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
	failure=$(openssl verify -x509_strict -CAfile "$1/ca.pem" "$1/cert.pem" 2>&1) ||
		warn_of_strict_clients "$1/cert.pem" "$(echo "$failure" | sed -n 's/^error .* lookup: //p' | head -n 1)"
	echo "those of $1/cert.pem" >"$STATE/certificate.names"
}
