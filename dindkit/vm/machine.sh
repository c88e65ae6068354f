#!/bin/sh
# In the image's root: make of the machine what a container is, and run the image's entrypoint until it ends.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

say() { echo "machine: $*"; }

# However this script ends, so does the machine, and the disk is written before.
# shellcheck disable=SC2317 # the trap below calls it
leave() {
	code=$?
	trap - EXIT
	say "ends with $code"
	umount /var/lib/docker 2>/dev/null || :
	sync
	echo o >/proc/sysrq-trigger
	sleep 60
}
trap leave EXIT

mount_all() {
	mkdir -p /dev/pts /dev/shm /dev/mqueue
	mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
	mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
	mount -t mqueue mqueue /dev/mqueue
	mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
	ln -s /proc/self/fd /dev/fd
	ln -s fd/0 /dev/stdin
	ln -s fd/1 /dev/stdout
	ln -s fd/2 /dev/stderr
}

# open_line: the line to the program that started QEMU, as descriptor 3, since it can be opened only once.
# Certificates go out, the word to stop comes in.
open_line() {
	for folder in /sys/class/virtio-ports/*; do
		[ "$(cat "$folder/name")" != dindkit ] || exec 3<>"/dev/${folder##*/}"
	done
}

# Addresses of QEMU's user network: https://www.qemu.org/docs/master/system/devices/net.html
start_network() {
	ip link set lo up
	ip address add 10.0.2.15/24 dev eth0
	ip link set eth0 up
	ip route add default via 10.0.2.2
	echo 'nameserver 10.0.2.3' >/etc/resolv.conf
	printf '127.0.0.1 localhost\n10.0.2.15 %s\n' "$(uname -n)" >/etc/hosts
}

# A new disk is empty: it gets its file system here, where the tools are.
mount_data() {
	for folder in /sys/block/vd*; do
		[ "$(cat "$folder/serial")" = data ] || continue
		disk=/dev/${folder##*/}
		[ "$(blkid -o value -s TYPE "$disk")" = ext4 ] || mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$disk"
		mkdir -p /var/lib/docker
		mount -t ext4 -o discard "$disk" /var/lib/docker
	done
}

# give_certificates: once all are there. Each gets its name only when it is whole.
give_certificates() {
	while [ ! -s /certs/client/ca.pem ] || [ ! -s /certs/client/cert.pem ] || [ ! -s /certs/client/key.pem ]; do
		sleep 0.1
	done
	tar -c -C /certs/client ca.pem cert.pem key.pem >&3
}

echo dindkit-vm >/proc/sys/kernel/hostname
mount_all
depmod &
indexes=$!
open_line
start_network
mount_data
wait "$indexes"
say 'starts the image'
sh /run/machine/command 3>&- &
image=$!
give_certificates &
{
	read -r word <&3
	say "is told to $word"
	kill -TERM "$image"
} &
code=0
wait "$image" || code=$?
say "the image has ended with $code"
exit "$code"
