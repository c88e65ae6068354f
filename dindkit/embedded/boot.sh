#!/bin/sh
# Make a machine of an image's tree and run a program in it, inside namespaces that unshare(1) has just made.
#
#   boot.sh FOLDER TREE CGROUP [SOURCE PLACE]... -- PROGRAM [ARGUMENT]...
#
# FOLDER is an empty folder to mount on, TREE the image's tree (it stays as it is), CGROUP one of `1`, `2` and
# `none`. Each SOURCE of the host is mounted at PLACE. All mounts belong to the namespace and go with it.
set -eu
PATH=$PATH:/usr/sbin:/sbin # not on that of every user, and pivot_root is there

# An overlay whose upper side is memory: whatever the machine writes outside its mounts is gone when it stops.
# Unbindable for now, because a SOURCE that contains FOLDER would otherwise carry the machine into itself.
lay_root() {
	mount -t tmpfs -o mode=0755 tmpfs "$1"
	cd "$1"
	mkdir tree upper work root
	mount --bind "$2" tree
	mount -t overlay -o lowerdir=tree,upperdir=upper,workdir=work overlay root
	mount --make-unbindable "$1"
	mount --make-unbindable root
}

lay_system() {
	mkdir -p root/proc root/sys root/dev
	mount -t proc -o nosuid,nodev,noexec proc root/proc
	mount --rbind /sys root/sys
	mount --rbind /dev root/dev
}

# Mounted anew rather than bound: in a cgroup namespace of its own the machine then sees only its own part.
lay_cgroups() {
	[ "$1" = none ] || ! mountpoint -q root/sys/fs/cgroup || umount --recursive root/sys/fs/cgroup
	case $1 in
		2) mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 root/sys/fs/cgroup ;;
		1)
			mount -t tmpfs -o nosuid,nodev,noexec,mode=0755 cgroup root/sys/fs/cgroup
			while IFS=: read -r _ controllers _; do
				[ -z "$controllers" ] || lay_hierarchy "$controllers" "root/sys/fs/cgroup/${controllers#name=}"
			done </proc/self/cgroup
			;;
	esac
}

lay_hierarchy() {
	mkdir "$2"
	case $1 in
		name=*) mount -t cgroup -o "nosuid,nodev,noexec,none,$1" cgroup "$2" ;;
		*) mount -t cgroup -o "nosuid,nodev,noexec,$1" cgroup "$2" ;;
	esac
}

lay_share() {
	rm -f "root$2" 2>/dev/null || :
	if [ -d "$1" ]; then
		mkdir -p "root$2"
	else
		mkdir -p "$(dirname "root$2")"
		: >"root$2"
	fi
	mount --rbind "$1" "root$2"
}

# A plain chroot would not do: containers would see the outer root, and `docker load` could not remount it.
enter_root() {
	mount --make-private root # and nothing below: shares go on to receive what is mounted on the host
	cd root
	mkdir -p .host
	pivot_root . .host
	umount --lazy /.host
	rmdir /.host
	cd /
}

folder=$1 tree=$2 cgroup=$3
shift 3
lay_root "$folder" "$tree"
lay_system
lay_cgroups "$cgroup"
while [ "$1" != -- ]; do
	lay_share "$1" "$2"
	shift 2
done
shift
enter_root
exec "$@"
