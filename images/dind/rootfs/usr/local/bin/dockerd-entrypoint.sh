#!/bin/sh
# How a container becomes a Docker daemon. The order is the list of calls at the end; each call is one subject, in
# the file beside it in /usr/local/lib/dind. Shared between them, in capitals:
#
#   STATE       folder for what this start works out     OPTIONS      flags of ours for dockerd, one per line
#   DATA_ROOT   dockerd's --data-root                    CONFIG_FILE  the merged daemon.json
#   EXEC_ROOT   dockerd's --exec-root                    DAEMON_JSON  the user's daemon.json, or nothing
#   SOCKET      path of the daemon's own socket          CONTAINERD, DOCKERD   process ids
set -eu

LIBRARY=/usr/local/lib/dind
for subject in log arguments settings privileges rootless storage leftovers mounts cgroups containerd iptables \
	certificates listeners network swarm supervise; do
	# shellcheck source=/dev/null
	. "$LIBRARY/$subject.sh"
done

case "${1:-}" in
	'' | -*) standard_listeners=yes ;;
	dockerd)
		standard_listeners=''
		shift
		;;
	*) exec docker-entrypoint.sh "$@" ;;
esac
! asks_only "$@" || exec dockerd "$@"

# An init as the first process reaps orphans (https://github.com/docker-library/docker/issues/318) and passes signals
# on. Docker's packages keep it off PATH.
if [ $$ -eq 1 ]; then
	PATH=$PATH:/usr/libexec/docker
	[ -n "$standard_listeners" ] || set -- dockerd "$@"
	exec docker-init -- "$0" "$@"
fi

# shellcheck disable=SC2034 # read by the files of LIBRARY
STATE=/run/dind SOCKET=/var/run/docker.sock OPTIONS='' CONFIG_FILE=''
# containerd and dockerd take a set `container` as a sign to leave the host's AppArmor alone.
export container="${container:-docker}"
rm -rf "$STATE"
mkdir -p "$STATE"

read_environment
check_swarm
read_daemon_json "$@"
require_privileges
# shellcheck disable=SC2034 # as above
DATA_ROOT=$(config_value data-root g /var/lib/docker "$@")
# shellcheck disable=SC2034 # as above
EXEC_ROOT=$(config_value exec-root _ /var/run/docker "$@")

claim_data_root
remove_leftovers "$(config_value pidfile p /var/run/docker.pid "$@")"
mount_pseudo_file_systems
nest_cgroups
start_containerd "$@"
choose_iptables "$@"
check_overlay "$@"
[ -z "$standard_listeners" ] || listen "$@"
record_listeners "$@"
follow_outer_network
write_daemon_json "$@"
supervise "$@"
