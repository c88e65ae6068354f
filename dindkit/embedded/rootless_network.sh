# shellcheck shell=sh
# Run a program in a network of rootlesskit's, in a user namespace where all ids are as out here. slirp4netns carries
# its traffic to the host's sockets, and published ports are the host's.
set -eu

# As which ids rootlesskit may use: all that root here has.
for kind in uid gid; do
	while read -r first _ count; do
		[ "$first" = 0 ] || echo "root:$first:$count"
	done <"/proc/self/${kind}_map" >"/etc/sub$kind"
done

# Networks next to the host, which none in there may hide: the entrypoint's keep_off_outside.
ROOTLESS_OUTSIDE=$(ip -oneline -4 route show scope link | while read -r subnet _; do echo "$subnet"; done)
export ROOTLESS_OUTSIDE

exec docker-init -- rootlesskit --net=slirp4netns --mtu=1500 --disable-host-loopback --port-driver=builtin \
	--copy-up=/etc "$@"
