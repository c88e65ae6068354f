#!/usr/bin/busybox sh
# The first process of a virtual machine: mount the image as the root, below a layer in memory, and go on there.
# shellcheck shell=dash
set -eu
PATH=/usr/bin
export PATH
bb=/usr/bin/busybox

# Without a root there is nothing to be done: the end of the first process is a panic, which ends the machine.
fail() {
	echo "machine: $*"
	exit 1
}

# disk NAME: the device that QEMU calls so, into DISK; the kernel may still be looking for it.
disk() {
	for _ in $($bb seq 100); do
		for folder in /sys/block/vd*; do
			if [ -e "$folder/serial" ] && [ "$($bb cat "$folder/serial")" = "$1" ]; then
				DISK=/dev/${folder##*/}
				return
			fi
		done
		$bb sleep 0.1
	done
	fail "there is no disk $1"
}

$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
for module in /modules/*; do
	$bb insmod "$module" || fail "the module $module cannot be loaded"
done
disk root
$bb mount -t erofs -o ro "$DISK" /image || fail "the image cannot be mounted"
$bb mount -t tmpfs -o mode=0755 tmpfs /memory
$bb mkdir /memory/upper /memory/work
$bb mount -t overlay -o lowerdir=/image,upperdir=/memory/upper,workdir=/memory/work overlay /root
$bb mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /root/run
$bb mkdir /root/run/machine
$bb cp /machine/* /root/run/machine/
for folder in dev proc sys; do
	$bb mount --move /$folder /root/$folder
done
# docker-init reaps orphans, as it does in a container.
exec $bb switch_root /root /usr/local/bin/docker-init -- /bin/sh /run/machine/machine.sh
