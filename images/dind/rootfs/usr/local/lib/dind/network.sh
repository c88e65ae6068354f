# shellcheck shell=sh
# What nested networks take over from the network that this container is in.

RESOLVER=DOCKER-DIND-RESOLVER # our chain of iptables

follow_outer_network() {
	follow_mtu
	follow_resolver
	follow_ipv6
}

# A default route with a small MTU (VPNs, clouds, overlay networks) drops what nested containers send larger.
# https://github.com/actions/actions-runner-controller/issues/848
follow_mtu() {
	configured mtu ''
	if [ -n "$ANSWER" ]; then
		# dockerd's own setting is for the default bridge alone.
		! is_mtu "$ANSWER" || setting auto-mtu mtu "$ANSWER"
		return 0
	fi
	default_route || return 0
	[ "$MTU" -lt 1500 ] || return 0
	setting auto-mtu mtu "$MTU"
	log_info "MTU of nested networks: $MTU, as that of $DEVICE."
}

# default_route: its interface into DEVICE, its MTU into MTU; fail where there is none.
default_route() {
	while read -r DEVICE destination _ _ _ _ _ mask MTU _; do
		[ "$destination/$mask" = 00000000/00000000 ] || continue
		[ "$MTU" -gt 0 ] || read -r MTU <"/sys/class/net/$DEVICE/mtu"
		return
	done </proc/net/route
	return 1
}

# own_address: the address that others reach us by into ADDRESS, its interface into DEVICE.
own_address() {
	default_route || DEVICE=''
	# shellcheck disable=SC2046 # words
	set -- $(ip -oneline -4 address show ${DEVICE:+dev "$DEVICE"} scope global)
	DEVICE=${2:-} ADDRESS=${4:-}
	ADDRESS=${ADDRESS%%/*}
}

# In a user-defined network names are resolved by the outer daemon, at 127.0.0.11 in our network namespace. Nested
# containers cannot reach that address, and dockerd replaces it by public servers, which know no container. So our
# resolv.conf, which dockerd reads, names our own address, and what is asked there is passed on to 127.0.0.11.
# https://github.com/moby/moby/issues/20037
follow_resolver() {
	outer_resolver || return 0
	own_address
	udp=$(embedded_port udp) tcp=$(embedded_port tcp)
	if [ -z "$udp" ] || [ -z "$tcp" ] || [ -z "$ADDRESS" ]; then
		log_warn 'the resolver of the outer network is not at 127.0.0.11: nested containers ask public servers.'
		return 0
	fi
	if pass_questions_on && rename_resolver; then
		log_info "names in nested containers: resolved by the outer network, through $ADDRESS."
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
		jump PREROUTING ! -i "$DEVICE" -d "$ADDRESS" &&
		jump OUTPUT -d "$ADDRESS" &&
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
	sed "s/^nameserver 127\.0\.0\.11\$/nameserver $ADDRESS/; s/ndots:0//" /etc/resolv.conf >"$STATE/resolv.conf" &&
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
	if ! ip6tables --wait 5 -t nat -n -L >/dev/null 2>&1; then
		log_warn 'ip6tables does not work here: nested containers have IPv4 alone.'
		return 0
	fi
	setting auto-boolean ipv6 true
	setting auto-boolean ip6tables true
	# A subnet of our own (RFC 4193), the same at every start.
	digits=$(md5sum </proc/sys/kernel/hostname)
	digits=${digits%"${digits#??????????}"}
	subnet=fd${digits%????????}
	digits=${digits#??}
	subnet=$subnet:${digits%????}:${digits#????}:0
	setting auto-string fixed-cidr-v6 "$subnet::/64"
	version=$(dockerd --version)
	version=${version#Docker version }
	[ "${version%%.*}" -ge 27 ] || setting auto-boolean experimental true
	log_info "IPv6: nested containers on the default bridge are in $subnet::/64."
}

# has_ipv6: is there an address of global scope (00) on an interface that is not the loopback?
has_ipv6() {
	[ -r /proc/net/if_inet6 ] || return 1
	while read -r _ _ _ scope _ device; do
		[ "$scope" != 00 ] || [ "$device" = lo ] || return 0
	done </proc/net/if_inet6
	return 1
}
