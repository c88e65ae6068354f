# shellcheck shell=sh
# Which dockerd is this? Few starts have to know, and asking takes as long as a program takes to start.

# dockerd_version: its first number, into VERSION; a large one where it was built from a branch, which is newer than any
# release.
dockerd_version() {
	[ -z "${VERSION:-}" ] || return 0
	VERSION=$(dockerd --version)
	VERSION=${VERSION#Docker version }
	VERSION=${VERSION%%.*}
	is_number "$VERSION" || VERSION=999
}
