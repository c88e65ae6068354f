#!/bin/sh
# What only a privileged container in the engine's own network can see of its machine; one `name=value` per line.
set -u

for backend in nft legacy; do
	# Listing with iptables-legacy would load its modules: it is asked only where it is in use.
	[ "$backend" = nft ] || [ -n "$(cat /proc/net/ip_tables_names 2>/dev/null)" ] || continue
	if rules=$("iptables-$backend-save" -t nat 2>&1); then
		echo "$backend=$(echo "$rules" | grep -c '^-A.*DOCKER')"
	else
		echo "$backend-error=$(echo "$rules" | tail -n 1)"
	fi
done
device=$(ip route show default | sed -n '1s/.* dev \([^ ]*\).*/\1/p')
[ -z "$device" ] || echo "mtu=$(cat "/sys/class/net/$device/mtu") ($device)"
! [ -e /proc/net/ip_vs ] || echo 'ipvs=yes'
# Of the container's first process: what is run by exec may have less. setpriv lists capabilities by number.
held=$((0x$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/1/status))) number=0
for capability in $(setpriv --list-caps); do
	[ $((held >> number & 1)) -eq 1 ] || printf 'lacks=%s\n' "$capability"
	number=$((number + 1))
done
