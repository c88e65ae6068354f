# shellcheck shell=sh
# What nested networks take over from the network that this container is in.

RESOLVER=DOCKER-DIND-RESOLVER # our chain of iptables
IPV6_MTU=1280                 # the least with IPv6 (RFC 8200)

follow_outer_network() {
	follow_mtu
	follow_resolver
	follow_ipv6
}

# A default route with a small MTU (VPNs, clouds, overlay networks) drops what nested containers send larger.
# https://github.com/actions/actions-runner-controller/issues/848
follow_mtu() {
	configured mtu ''
	NESTED_MTU=$ANSWER
	configured ipv6 false
	if [ -n "$NESTED_MTU" ]; then
		is_mtu "$NESTED_MTU" || return 0 # dockerd says what is wrong with it
		[ "$NESTED_MTU" -ge "$IPV6_MTU" ] || [ "$ANSWER" = false ] ||
			die "IPv6 was asked for, and an MTU of $NESTED_MTU: Linux has no IPv6 below $IPV6_MTU. Raise the MTU," \
				'or leave IPv6 out.'
		# dockerd's own setting is for the default bridge alone.
		setting auto-mtu mtu "$NESTED_MTU"
		return 0
	fi
	NESTED_MTU=1500
	for family in -4 -6; do
		[ "$family" = -4 ] || has_ipv6 || continue
		default_route "$family" || continue
		[ "$MTU" -lt "$NESTED_MTU" ] || continue
		NESTED_MTU=$MTU NARROW=$DEVICE
	done
	[ "$NESTED_MTU" -lt 1500 ] || return 0
	if [ "$NESTED_MTU" -lt "$IPV6_MTU" ] && [ "$ANSWER" != false ]; then
		log_warn "the MTU of $NARROW is $NESTED_MTU. IPv6 was asked for, so that of nested networks is $IPV6_MTU:" \
			'less is not possible with it.'
		NESTED_MTU=$IPV6_MTU
	fi
	setting auto-mtu mtu "$NESTED_MTU"
	log_info "MTU of nested networks: $NESTED_MTU, as that of $NARROW."
}

# default_route [-6]: its interface into DEVICE, its gateway into GATEWAY, its MTU into MTU; fail where there is none. Not
# by /proc/net/route, which knows no MTU, nor by /sys, which may show another network namespace.
# shellcheck disable=SC2034 # GATEWAY is read in bridge.sh
default_route() {
	DEVICE='' GATEWAY='' MTU=''
	# shellcheck disable=SC2046 # words
	set -- $(ip -oneline "${1:--4}" route show default)
	while [ $# -gt 1 ]; do
		case "$1 $2" in
			'default '*) [ -z "$DEVICE" ] || break ;; # of several the first applies
			'dev '*) DEVICE=${DEVICE:-$2} ;;
			'via '*) GATEWAY=${GATEWAY:-$2} ;;
			'mtu lock') MTU=${MTU:-${3:-}} ;;
			'mtu '*) MTU=${MTU:-$2} ;;
		esac
		shift
	done
	[ -n "$DEVICE" ] || return 1
	[ -z "$MTU" ] || return 0
	# shellcheck disable=SC2046 # words
	set -- $(ip -oneline link show dev "$DEVICE")
	while [ "$1" != mtu ]; do shift; done
	MTU=$2
}

# own_address: the address that others reach us by into ADDRESS, its interface into DEVICE; of IPv6 where there is no
# other.
own_address() {
	default_route || default_route -6 || :
	for family in -4 -6; do
		# shellcheck disable=SC2046 # words
		set -- $(ip -oneline "$family" address show ${DEVICE:+dev "$DEVICE"} scope global)
		[ -z "${4:-}" ] || break
	done
	DEVICE=${2:-$DEVICE} ADDRESS=${4:-}
	ADDRESS=${ADDRESS%%/*}
}

# In a user-defined network names are resolved by the outer daemon, at 127.0.0.11 in our network namespace. Nested
# containers cannot reach that address, and dockerd replaces it by public servers, which know no container. So our
# resolv.conf, which dockerd reads, names an address of ours, and what is asked there is passed on to 127.0.0.11.
# https://github.com/moby/moby/issues/20037
follow_resolver() {
	outer_resolver || return 0
	keep_off_outer_addresses
	own_address
	forwarder=$ADDRESS
	case "$ADDRESS" in
		*:*)
			# On a network of IPv6 alone: one that nobody else can reach, as the resolver's own is of IPv4.
			forwarder=169.254.53.53
			ip address replace "$forwarder/32" dev lo
			;;
	esac
	udp=$(embedded_port udp) tcp=$(embedded_port tcp)
	if [ -z "$udp" ] || [ -z "$tcp" ] || [ -z "$forwarder" ]; then
		log_warn 'the resolver of the outer network is not at 127.0.0.11: nested containers ask public servers.'
		return 0
	fi
	if pass_questions_on && rename_resolver; then
		log_info "names in nested containers: resolved by the outer network, through $forwarder."
	else
		log_warn 'the resolver of the outer network cannot be passed on: nested containers ask public servers.'
	fi
}

pass_questions_on() {
	configured iptables true
	[ "$ANSWER" != false ] &&
		# A start before this one may have been in the same network namespace (`network_mode: service:…`).
		{ nat --new-chain "$RESOLVER" || nat --flush "$RESOLVER"; } 2>/dev/null &&
		nat --append "$RESOLVER" -p udp --dport 53 -j DNAT --to-destination "127.0.0.11:$udp" &&
		nat --append "$RESOLVER" -p tcp --dport 53 -j DNAT --to-destination "127.0.0.11:$tcp" &&
		jump PREROUTING ! -i "$DEVICE" -d "$forwarder" &&
		jump OUTPUT -d "$forwarder" &&
		# For bridges that come later, that is the nested ones; interfaces that are there keep what they have.
		echo 1 >/proc/sys/net/ipv4/conf/default/route_localnet
}

nat() { iptables --wait --table nat "$@"; }

# jump CHAIN MATCH…: from there to our chain, once.
jump() {
	chain=$1
	shift
	nat --check "$chain" "$@" --jump "$RESOLVER" 2>/dev/null || nat --insert "$chain" "$@" --jump "$RESOLVER"
}

# ndots goes, since dockerd takes it for a wish not to look up names without a dot outside of nested networks.
rename_resolver() {
	sed "s/^nameserver 127\.0\.0\.11\$/nameserver $forwarder/; s/ndots:0//" /etc/resolv.conf >"$STATE/resolv.conf" &&
		mount --bind "$STATE/resolv.conf" /etc/resolv.conf
}

outer_resolver() {
	while read -r key value _; do
		[ "$key $value" != 'nameserver 127.0.0.11' ] || return 0
	done </etc/resolv.conf
	return 1
}

# embedded_port udp|tcp: where the outer daemon's resolver really listens (127.0.0.11, in the kernel's byte order).
embedded_port() {
	while read -r _ local _; do
		case "$local" in
			0B00007F:*)
				echo $((0x${local#*:}))
				return
				;;
		esac
	done <"/proc/net/$1"
}

# Where the outer network gave us IPv6, nested containers on the default bridge get it, too, behind our address.
# Before Docker 27 that takes a subnet, and `experimental` for ip6tables.
# https://docs.docker.com/engine/release-notes/27/
follow_ipv6() {
	configured ipv6 ''
	[ -z "$ANSWER" ] && has_ipv6 || return 0
	dockerd_version
	configured experimental true
	why=''
	if [ "$NESTED_MTU" -lt "$IPV6_MTU" ]; then
		why="Linux has no IPv6 with an MTU under $IPV6_MTU"
	elif [ "$VERSION" -lt 27 ] && [ "$ANSWER" = false ]; then
		why="Docker $VERSION translates its addresses only with \"experimental\""
	elif ! ip6tables --wait 5 -t nat -n -L >/dev/null 2>&1; then
		why='ip6tables does not work here'
	fi
	if [ -n "$why" ]; then
		log_info "IPv6: nested containers have IPv4 alone, since $why."
		return 0
	fi
	# A subnet of our own (RFC 4193), the same at every start.
	digits=$(md5sum </proc/sys/kernel/hostname)
	digits=${digits%"${digits#??????????}"}
	subnet=fd${digits%????????}
	digits=${digits#??}
	subnet=$subnet:${digits%????}:${digits#????}:0
	setting auto-boolean ipv6 true
	setting auto-boolean ip6tables true
	setting auto-string fixed-cidr-v6 "$subnet::/64"
	log_info "IPv6: nested containers on the default bridge are in $subnet::/64."
	if [ "$VERSION" -lt 27 ]; then
		setting auto-boolean experimental true
		log_info "IPv6: Docker $VERSION calls that experimental, so \"experimental\" is on; \"ipv6\": false in daemon.json" \
			'turns both off.'
	fi
	settle_bridge "$VERSION"
}

# has_ipv6: is there an address of global scope (00) on an interface that is not the loopback?
has_ipv6() {
	[ -r /proc/net/if_inet6 ] || return 1
	while read -r _ _ _ scope _ device; do
		[ "$scope" != 00 ] || [ "$device" = lo ] || return 0
	done </proc/net/if_inet6
	return 1
}
