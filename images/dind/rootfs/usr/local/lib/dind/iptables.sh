# shellcheck shell=sh
# Which of iptables' two backends dockerd is to use. Two in one network namespace do not see each other's rules.

# choose_iptables: put the chosen backend first on PATH, and say which and why.
choose_iptables() {
	configured iptables true
	[ "$ANSWER" != false ] || return 0
	configured firewall-backend ''
	if [ "$ANSWER" = nftables ]; then
		log_info 'firewall: nftables, as the settings say.'
		forward_packets
		return
	fi
	if [ -n "${DOCKER_IPTABLES_LEGACY+set}" ]; then
		why='DOCKER_IPTABLES_LEGACY'
		order=${DOCKER_IPTABLES_LEGACY:+legacy}
		order=${order:-nft}
	elif legacy_has_tables; then
		# The outer daemon keeps its rules for 127.0.0.11 here: go with it, or names stop resolving.
		# https://github.com/docker-library/docker/issues/467
		why='it holds rules already' order='legacy nft'
	else
		# Never legacy first: listing loads its modules, which changes the answer for whoever asks next.
		# https://github.com/docker-library/docker/issues/350
		why='it works' order='nft legacy'
	fi
	failures=''
	for backend in $order; do
		if failure=$("iptables-$backend" --wait 5 -t nat -n -L 2>&1 >/dev/null); then
			[ -z "$failures" ] || why='the other one does not work'
			PATH=/usr/local/lib/dind/iptables-$backend:$PATH
			log_info "iptables: $backend ($why)."
			return 0
		fi
		failures="$failures iptables-$backend says: $failure;"
	done
	dockerd_version
	# https://docs.docker.com/engine/network/firewall-nftables/
	if [ -z "$ANSWER" ] && [ "$VERSION" -ge 29 ] && nft list tables >/dev/null 2>&1; then
		setting auto-string firewall-backend nftables
		log_info "firewall: nftables, since no iptables works here:$failures"
		forward_packets
		return
	fi
	die "no usable iptables on kernel $(uname -r):$failures" \
		'load the modules on the host (modprobe iptable_nat or nf_tables), or set "iptables": false in daemon.json.'
}

# forward_packets: dockerd leaves that to others where its firewall is nftables.
forward_packets() {
	for switch in ipv4/ip_forward ipv6/conf/all/forwarding; do
		[ ! -e "/proc/sys/net/$switch" ] || { echo 1 >"/proc/sys/net/$switch"; } 2>/dev/null ||
			log_warn "/proc/sys/net/$switch cannot be set: nested containers may not reach out."
	done
}

legacy_has_tables() {
	for family in ip ip6 arp; do
		names=''
		{ read -r names <"/proc/net/${family}_tables_names"; } 2>/dev/null || :
		[ -z "$names" ] || return 0
	done
	return 1
}
