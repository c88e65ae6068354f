# shellcheck shell=sh
# What nested networks take over from the network that this container is in.

follow_outer_network() {
	follow_mtu
	follow_resolver
}

# A default route with a small MTU (VPNs, clouds, overlay networks) drops what nested containers send larger.
# https://github.com/actions/actions-runner-controller/issues/848
follow_mtu() {
	while read -r device destination _ _ _ _ _ mask mtu _; do
		[ "$destination/$mask" = 00000000/00000000 ] || continue
		[ "$mtu" -gt 0 ] || mtu=$(cat "/sys/class/net/$device/mtu")
		[ "$mtu" -ge 1500 ] || {
			setting auto-mtu mtu "$mtu"
			log_info "MTU of nested networks: $mtu, as that of $device."
		}
		return 0
	done </proc/net/route
}

# In a user-defined network names are resolved by the outer daemon, at 127.0.0.11 in our network namespace. Nested
# containers cannot reach that address, and dockerd replaces it by a public server, which knows no container.
# So they are told to ask us, and what they ask is passed on. https://github.com/moby/moby/issues/20037
follow_resolver() {
	grep -q '^nameserver 127\.0\.0\.11$' /etc/resolv.conf || return 0
	udp=$(embedded_port udp) tcp=$(embedded_port tcp)
	address=$(ip -oneline -4 address show scope global | { read -r _ _ _ address _ && echo "${address%%/*}"; }) || :
	if [ -z "$udp" ] || [ -z "$tcp" ] || [ -z "$address" ]; then
		log_warn 'the resolver of the outer network is not at 127.0.0.11: nested containers ask public servers.'
		return 0
	fi
	# Only for bridges that come later, that is the nested ones: the outer interface keeps its own value.
	{ echo 1 >/proc/sys/net/ipv4/conf/default/route_localnet; } 2>/dev/null || return 0
	outer=$(ip -oneline -4 address show to "$address" | { read -r _ device _ && echo "$device"; })
	iptables -w -t nat -N DIND_DNS 2>/dev/null || iptables -w -t nat -F DIND_DNS
	iptables -w -t nat -A DIND_DNS -p udp --dport 53 -j DNAT --to-destination "127.0.0.11:$udp"
	iptables -w -t nat -A DIND_DNS -p tcp --dport 53 -j DNAT --to-destination "127.0.0.11:$tcp"
	iptables -w -t nat -C PREROUTING ! -i "$outer" -d "$address" -j DIND_DNS 2>/dev/null ||
		iptables -w -t nat -I PREROUTING ! -i "$outer" -d "$address" -j DIND_DNS
	setting auto-list dns "$address"
	log_info "names in nested containers: resolved by the outer network, through $address."
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
