#!/bin/sh
# How a container becomes a Docker daemon. The order is the list of calls at the end; each call is one subject, in
# the file beside it in /usr/local/lib/dind. Shared between them, in capitals:
#
#   STATE        folder for what this start works out    OPTIONS      flags of ours for dockerd, one per line
#   ARGUMENTS, ENVIRONMENT, FILE   who says what         SETTINGS     keys of ours for daemon.json
#   DAEMON_JSON  the user's daemon.json, or nothing      CONFIG_FILE  the merged one, or nothing
#   DATA_ROOT, EXEC_ROOT, SOCKET, RUN   dockerd's places CONTAINERD, HOLDER, DOCKERD, CERTIFICATES   process ids
# shellcheck disable=SC2034 # what looks unused here is read there
set -eu
[ $$ -ne 1 ] || trap 'exit 143' TERM # until there is an init: a first process hears only what it asks for

# An init as the first process reaps orphans (https://github.com/docker-library/docker/issues/318) and passes signals
# on. Docker's packages keep it off PATH.
case "$$ ${1:-}" in
	'1 ' | '1 -'* | '1 dockerd')
		PATH=$PATH:/usr/libexec/docker
		ENTRYPOINT_UNDER_INIT=yes exec docker-init -- "$0" "$@"
		;;
esac

LIBRARY=/usr/local/lib/dind
for subject in log tables version settings privileges rootless storage leftovers processes mounts cgroups containerd \
	iptables certificates listeners bridge network swarm after_start supervise; do
	# shellcheck source=/dev/null
	. "$LIBRARY/$subject.sh"
done

first=${ENTRYPOINT_UNDER_INIT:-}
unset ENTRYPOINT_UNDER_INIT
OPTIONS='' CONFIG_FILE='' CONTAINERD='' HOLDER='' DOCKERD='' CERTIFICATES=''
STATE=/run/dind SOCKET=/var/run/docker.sock RUN=/var/run
DEFAULT_DATA_ROOT=/var/lib/docker DEFAULT_DAEMON_JSON=/etc/docker/daemon.json

clear_stale_files
[ $# -gt 0 ] || refuse_foreign_socket
case "${1:-}" in
	'' | -*) standard_listeners=yes ;;
	dockerd)
		standard_listeners=''
		shift
		;;
	*) exec docker-entrypoint.sh "$@" ;;
esac
! asks_only "$@" || exec dockerd "$@"
! brings_daemon || die "$NOT_BOTH"
keep_environment
export DOCKER_TLS_CERTDIR="${DOCKER_TLS_CERTDIR-/certs}" # empty means none
is_root || become_root "$standard_listeners" "$@"
is_root || become_rootless "$standard_listeners" "$@"
! rootless || rootless_places
# containerd and dockerd take a set `container` as a sign to leave the host's AppArmor alone.
export container="${container:-docker}"

read_arguments "$@"
read_environment
read_daemon_json
require_privileges
choose_listeners "$standard_listeners"
require_own_sockets
# Each process that is started before costs time in which clients are refused.
[ -z "$first" ] || ! is_untouched || open_sockets
claim_data_root
remove_leftovers
sign_state
keep_off_outside
check_bridge
[ -n "$HOLDER" ] || open_sockets
check_swarm
check_preload
choose_tls
mount_pseudo_file_systems
nest_cgroups
start_containerd
choose_iptables
check_overlay
follow_outer_network
announce
record_listeners
find_own_socket
write_daemon_json "$@"
supervise "$@"
