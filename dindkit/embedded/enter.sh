#!/bin/sh
# Join cgroups, send all output to a log, and become a program.
#
#   enter.sh LOG FOLDER... -- PROGRAM [ARGUMENT]...
#
# The cgroups come first: a cgroup namespace is rooted where the process is when it unshares.
set -eu

exec >>"$1" 2>&1
umask 022 # what the engine makes is for all of its users, and a user's own may be stricter
shift
while [ "$1" != -- ]; do
	echo $$ >"$1/cgroup.procs"
	shift
done
shift
exec "$@"
