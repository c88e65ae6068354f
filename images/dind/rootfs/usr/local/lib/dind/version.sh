# shellcheck shell=sh
# Which dockerd and which containerd are these? Asking a program takes as long as it takes to start, a tenth of a start
# for dockerd; asking dpkg takes a tenth of that.

# debian_version PROGRAM FILE PACKAGE: into FOUND; fail where the program is not that FILE of Debian's PACKAGE.
debian_version() {
	# shellcheck disable=SC3013 # dash has -ef
	[ "$(command -v "$1")" -ef "$2" ] || return 1
	[ -n "${PACKAGES+set}" ] || PACKAGES=$(dpkg-query --show \
		--showformat '${db:Status-Status} ${Package} ${Version}\n' containerd docker.io 2>/dev/null) || :
	while read -r status package FOUND; do
		[ "$status $package" != "installed $3" ] || return 0
	done <<-TABLE
		$PACKAGES
	TABLE
	return 1
}

# containerd_version: into FOUND.
containerd_version() {
	! debian_version containerd /usr/bin/containerd containerd || return 0
	FOUND=$(containerd --version 2>/dev/null) || :
	FOUND=${FOUND#* * } # after its name and where it is from
}

# dockerd_version: its first number, into VERSION; a large one where it was built from a branch, which is newer than any
# release.
dockerd_version() {
	[ -z "${VERSION:-}" ] || return 0
	if debian_version dockerd /usr/sbin/dockerd docker.io; then
		VERSION=$FOUND
	else
		VERSION=$(dockerd --version)
		VERSION=${VERSION#Docker version }
	fi
	VERSION=${VERSION%%.*}
	is_number "$VERSION" || VERSION=999
}
