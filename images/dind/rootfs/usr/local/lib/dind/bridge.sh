# shellcheck shell=sh
# shellcheck disable=SC2153 # GATEWAY is not a misspelt gateway
# The default bridge, docker0: whose it is where there is one before us, and where in the address space it lies.

BRIDGE=docker0
MARK=dind # link alias of a bridge that is ours
# Where dockerd takes subnets from: first and last address, and size of each.
POOLS='172.17.0.0/16:16 172.18.0.0/16:16 172.19.0.0/16:16 172.20.0.0/14:16 172.24.0.0/14:16 172.28.0.0/14:16
	192.168.0.0/16:20'

# check_bridge: in the network of the host, or of another container, a docker0 may be somebody's. dockerd would take it
# over, or delete it (`--bridge=none`), and all of that daemon's containers would be off the network. Ours, and that of a
# daemon that has been stopped, are taken over.
check_bridge() {
	configured iptables true
	rules=$ANSWER
	configured bridge ''
	case "$ANSWER" in
		'' | none | "$BRIDGE") bridge=$BRIDGE ;;
		*) bridge='' ;;
	esac
	if runs_dockerd_in_network; then
		[ -n "$bridge" ] || [ "$rules" != false ] || return 0
	else
		[ -n "$bridge" ] && has_interface "$bridge" || return 0
		case "$(ip -oneline link show dev "$bridge")" in
			*"alias $MARK"*) return 0 ;;
		esac
		[ -n "$(ip -oneline link show master "$bridge")" ] || return 0
	fi
	die "the network of this container (--network host?) has another Docker's $BRIDGE, or its rules, which a second" \
		'daemon would take over: leave --network out, or stop that Docker, or add --bridge=NAME, a bridge of your own,' \
		'--iptables=false and --ip6tables=false.'
}

# runs_dockerd_in_network: the kernel lists the sockets of a network namespace whatever container they are in. Not by
# docker.sock, which a systemd keeps while there is no daemon.
runs_dockerd_in_network() {
	while read -r _ _ _ flags _ _ _ path; do
		case "$flags $path" in
			"00010000 "*/libnetwork/*.sock | "00010000 "*/docker/metrics.sock) return 0 ;;
		esac
	done </proc/net/unix
	return 1
}

# has_interface NAME: by the table of our own network namespace; /sys may show another's.
has_interface() {
	while read -r name _; do
		[ "${name%%:*}" != "$1" ] || return 0
	done </proc/net/dev
	return 1
}

# start_marking: in the background. The file tells whether it is still under way: its process id may be another's later.
start_marking() {
	: >"$STATE/marking"
	{
		mark_bridge || :
		rm -f "$STATE/marking"
	} 9>&- &
	MARKER=$!
}

stop_marking() {
	[ ! -e "$STATE/marking" ] || end_child "$MARKER"
}

# mark_bridge: once dockerd has made it; its address is kept for the next start.
mark_bridge() {
	trap - TERM INT QUIT HUP
	configured bridge "$BRIDGE"
	[ "$ANSWER" = "$BRIDGE" ] || return 0
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		sleep 0.5
		kill -0 "$DOCKERD" 2>/dev/null || return 0
		# shellcheck disable=SC2046 # words
		set -- $(ip -oneline -4 address show dev "$BRIDGE" 2>/dev/null)
		[ $# -lt 4 ] || break
	done
	case "$(ip -oneline link show dev "$BRIDGE" 2>/dev/null)" in
		*' alias '*) ;; # whoever left it may want to know it again
		*) ip link set dev "$BRIDGE" alias "$MARK" 2>/dev/null || return 0 ;;
	esac
	[ $# -lt 4 ] || echo "$4" >"$DATA_ROOT/.dind.bridge"
}

# settle_bridge VERSION: for a default bridge with IPv6. At the first start on a data root its IPv4 subnet is chosen
# here, and as dockerd would: named, it comes first in `docker network inspect`, and templates read the first. Later it
# stays what it was, since other networks may have all the rest.
settle_bridge() {
	for key in bridge bip fixed-cidr; do
		configured "$key" ''
		[ -z "$ANSWER" ] || return 0
	done
	# Before 27, dockerd sets an IPv6 route while its new bridge is still down, and logs the error.
	[ "$1" -ge 27 ] || make_bridge || :
	! has_interface "$BRIDGE" || [ -z "$(ip -4 address show dev "$BRIDGE" 2>/dev/null)" ] || return 0
	if [ ! -e "$DATA_ROOT/network/files/local-kv.db" ]; then
		free_subnet || return 0
		setting auto-string bip "$ANSWER"
		# A daemon may be stopped before mark_bridge has come to it.
		echo "$ANSWER" >"$DATA_ROOT/.dind.bridge"
	elif [ -s "$DATA_ROOT/.dind.bridge" ]; then
		read -r ANSWER <"$DATA_ROOT/.dind.bridge"
		setting auto-string bip "$ANSWER"
	fi
}

# make_bridge: as dockerd does, and up.
make_bridge() {
	! has_interface "$BRIDGE" || return 0
	digits=$(md5sum </proc/sys/kernel/hostname)
	digits=${digits%"${digits#????????}"}
	address=02:42
	while [ -n "$digits" ]; do
		address=$address:${digits%"${digits#??}"}
		digits=${digits#??}
	done
	ip link add "$BRIDGE" address "$address" type bridge || return 1
	ip link set "$BRIDGE" alias "$MARK"
	echo 0 >"/proc/sys/net/ipv6/conf/$BRIDGE/accept_ra"
	ip link set "$BRIDGE" up
}

# free_subnet: the first of dockerd's pools, or of the user's, that overlaps with no route; the bridge's address in it,
# with its length, into ANSWER.
free_subnet() {
	pools=$POOLS
	if lookup "$ENVIRONMENT" default-address-pools || lookup "$ARGUMENTS" default-address-pool; then
		pools=$(echo "$ANSWER" | sed 's/base=\([^,]*\),size=\([0-9]*\)/\1:\2/g; s/;/ /g')
	elif lookup "$FILE" default-address-pools; then
		pools=$(echo "$ANSWER" | jq -r '.[] | "\(.base):\(.size)"')
	fi
	for pool in $pools; do
		base=${pool%/*} length=${pool#*/}
		size=${length#*:} length=${length%:*}
		case "$base" in
			*:*) continue ;;
		esac
		number "$base"
		subnet=$NUMBER last=$((NUMBER + (1 << (32 - length)) - 1))
		while [ "$subnet" -lt "$last" ]; do
			if ! is_routed "$subnet" "$((subnet + (1 << (32 - size)) - 1))"; then
				dotted $((subnet + 1))
				ANSWER=$ANSWER/$size
				return
			fi
			subnet=$((subnet + (1 << (32 - size))))
		done
	done
	return 1
}

# is_routed FIRST LAST: is there a route, other than the default, for any address between?
is_routed() {
	while read -r _ destination _ _ _ _ _ mask _; do
		case "$mask" in
			00000000 | Mask) continue ;;
		esac
		hexadecimal "$destination"
		first=$NUMBER
		hexadecimal "$mask"
		[ "$first" -gt "$2" ] || [ $((first + 0xffffffff - NUMBER)) -lt "$1" ] || return 0
	done </proc/net/route
	return 1
}

# number A.B.C.D: as a number, into NUMBER.
number() {
	set -- "${1%%.*}" "${1#*.}"
	NUMBER=$1
	set -- "${2%%.*}" "${2#*.}"
	NUMBER=$((NUMBER << 8 | $1))
	NUMBER=$((NUMBER << 16 | ${2%%.*} << 8 | ${2#*.}))
}

# hexadecimal WORD: as /proc/net/route has it, lowest byte first on these machines, as a number into NUMBER.
hexadecimal() {
	NUMBER=$((0x$1))
	NUMBER=$(((NUMBER & 255) << 24 | (NUMBER >> 8 & 255) << 16 | (NUMBER >> 16 & 255) << 8 | NUMBER >> 24))
}

# dotted NUMBER: as A.B.C.D, into ANSWER.
dotted() {
	ANSWER=$(($1 >> 24)).$(($1 >> 16 & 255)).$(($1 >> 8 & 255)).$(($1 & 255))
}

# keep_off_outer_addresses: of name servers that the outer network's resolver asks, and of hosts in /etc/hosts (the host's
# gateway, say). dockerd sees neither, and would give a nested network the subnet that they are in. A route to each
# keeps it off, as any route does.
keep_off_outer_addresses() {
	default_route || return 0
	gateway=$GATEWAY
	# shellcheck disable=SC2013 # words
	for address in $(sed -n 's/^# ExtServers: \[\(.*\)\].*/\1/p' /etc/resolv.conf | tr -s 'host()' ' ') \
		$(sed 's/#.*//' /etc/hosts); do
		is_address "$address" || continue
		case "$address" in
			10.* | 172.1[6-9].* | 172.2[0-9].* | 172.3[01].* | 192.168.*) ;;
			*) continue ;;
		esac
		number "$address"
		! is_routed "$NUMBER" "$NUMBER" || continue
		# From Docker 27 on only routes without a gateway count: one that never applies, beside the one that does.
		{
			ip route add "$address/32" via "$gateway" dev "$DEVICE" &&
				ip route add "$address/32" dev "$DEVICE" scope link metric 4294967294
		} || log_warn "no route to $address could be made: a nested network may hide it."
	done
}
