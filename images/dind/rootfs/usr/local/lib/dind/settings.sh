# shellcheck shell=sh
# Settings from three places, none of them ever named twice: dockerd refuses to start when a key of daemon.json is
# also a flag (https://github.com/moby/moby/issues/22339). What the environment asks for and what the entrypoint
# works out is merged with the user's daemon.json into one file; a flag that the user gives is left alone.
# docs/settings.md is the table for users.

# setting KIND KEY VALUE: ask for a key of daemon.json. Kinds: string, number, list, pools, mtu; with `auto-` in
# front it is only a proposal, made where the user says nothing. merge.jq reads these lines: no value may hold a tab or a
# line feed.
setting() { SETTINGS=$SETTINGS$1$TAB$2$TAB$3$NEWLINE; }

# read_environment: variable, kind and key of the setting, check of the value or of each in a list, what a good one looks
# like.
read_environment() {
	SETTINGS='' ENVIRONMENT=''
	while read -r variable kind key check good; do
		eval "value=\${$variable:-}"
		[ -n "$value" ] || continue
		check_value "$variable" "$kind" "$check" "$good"
		setting "$kind" "$key" "$value"
		ENVIRONMENT=$ENVIRONMENT$key$TAB$value$NEWLINE
	done <<-'TABLE'
		DIND_REGISTRY_MIRRORS list registry-mirrors url a URL such as http://mirror:5000
		DIND_INSECURE_REGISTRIES list insecure-registries registry HOST:PORT or a network such as 10.0.0.0/8
		DIND_DNS list dns address an IP address
		DIND_MTU mtu mtu mtu a number from 68 to 65535
		DIND_DEFAULT_ADDRESS_POOLS pools default-address-pools pool of the form base=10.10.0.0/16,size=24
		DIND_STORAGE_DRIVER string storage-driver driver overlay2, overlayfs, fuse-overlayfs, btrfs, zfs or vfs
		DIND_LOG_LEVEL string log-level level debug, info, warn, error or fatal
		DIND_DATA_ROOT string data-root path an absolute path
	TABLE
	[ -z "${DIND_INSECURE_REGISTRIES:-}" ] || keep_loopback
	is_number "${DIND_STOP_TIMEOUT:-0}" || is_fraction "${DIND_STOP_TIMEOUT}" || die "DIND_STOP_TIMEOUT: '$DIND_STOP_TIMEOUT' is not a number of seconds."
}

# keep_loopback: from 29.10 on dockerd forgets that a registry on a loopback address may have no TLS as soon as it is told
# of another. https://github.com/moby/moby/releases/tag/docker-v29.10.0
keep_loopback() {
	dockerd_version
	[ "$VERSION" -lt 29 ] || setting list insecure-registries '127.0.0.0/8 ::1/128'
}

# check_value VARIABLE KIND CHECK GOOD: what is in `value`, every word of a list by itself, or end with a message. A list
# then has one space between its words.
check_value() {
	case "$2" in
		list) IFS=", ;$TAB$NEWLINE" ;;
		pools) IFS="; $TAB$NEWLINE" ;; # one has a comma within
		*) IFS='' ;;
	esac
	set -f
	# shellcheck disable=SC2086 # words
	set -- "$1" "$3" "$4" $value
	set +f
	unset IFS
	variable=$1 check=$2 good=$3
	shift 3
	value=$*
	for word; do
		"is_$check" "$word" || die "$variable: '$word' is not $good."
	done
}

is_number() {
	case "$1" in
		'' | *[!0-9]* | ??????*) return 1 ;;
	esac
}

is_fraction() { is_number "${1%%.*}" && is_number "${1#*.}"; }

is_url() {
	case "$1" in
		http://?* | https://?*) return 0 ;;
	esac
	return 1
}

is_registry() {
	case "$1" in
		*://* | [!0-9A-Za-z[]* | *[!0-9A-Za-z./:_\[\]-]*) return 1 ;;
		*/*) is_number "${1##*/}" ;;
	esac
}

is_address() {
	case "$1" in
		*[!0-9a-fA-F:.]*) return 1 ;;
		*:*:*) return 0 ;;
		*[!0-9.]* | *.*.*.*.* | *..* | .* | *.) return 1 ;;
		*.*.*.*) is_byte "${1%%.*}" && rest=${1#*.} && is_byte "${rest%%.*}" && rest=${rest#*.} &&
			is_byte "${rest%%.*}" && is_byte "${rest#*.}" ;;
		*) return 1 ;;
	esac
}

is_byte() { is_number "$1" && [ "$1" -le 255 ]; }

is_mtu() { is_number "$1" && [ "$1" -ge 68 ] && [ "$1" -le 65535 ]; }

is_pool() {
	case "$1" in
		base=?*/?*,size=?*) is_number "${1##*size=}" ;;
		*) return 1 ;;
	esac
}

is_driver() {
	case "$1" in
		overlay2 | overlayfs | fuse-overlayfs | btrfs | zfs | vfs) return 0 ;;
	esac
	return 1
}

is_level() {
	case "$1" in
		debug | info | warn | error | fatal) return 0 ;;
	esac
	return 1
}

is_path() {
	case "$1" in
		*["$TAB$NEWLINE"]*) return 1 ;;
		/*) return 0 ;;
	esac
	return 1
}

# read_daemon_json: the table FILE of what the user's file says.
read_daemon_json() {
	FILE=''
	if lookup "$ARGUMENTS" config-file; then
		DAEMON_JSON=$ANSWER
		[ -r "$DAEMON_JSON" ] || die "--config-file $DAEMON_JSON cannot be read."
	else
		DAEMON_JSON=$DEFAULT_DAEMON_JSON
		[ -e "$DAEMON_JSON" ] || DAEMON_JSON=''
	fi
	[ -n "$DAEMON_JSON" ] || return 0
	FILE=$(jq -r 'objects // error("it is of another type") | to_entries[] |
		[.key, (.value | tostring)] | @tsv' "$DAEMON_JSON" 2>&1) || die "$DAEMON_JSON is not a JSON object: $FILE"
	FILE=$FILE$NEWLINE
}

# write_daemon_json ARGUMENT…: merge, and point dockerd at the result; without anything to merge, at nothing. The
# arguments are dockerd's.
write_daemon_json() {
	[ -n "$SETTINGS" ] || return 0
	# shellcheck disable=SC2034 # read by supervise
	CONFIG_FILE=$STATE/daemon.json
	merge_daemon_json "$@" || die "$FAILURE"
}

# merge_daemon_json ARGUMENT…: into CONFIG_FILE, whole or not at all. What is wrong is in FAILURE.
merge_daemon_json() {
	FAILURE=$({ jq -n --arg settings "$SETTINGS" --arg arguments "$ARGUMENTS" --slurpfile file "${DAEMON_JSON:-/dev/null}" \
		-f /usr/local/lib/dind/merge.jq >"$CONFIG_FILE.new"; } 2>&1) || {
		FAILURE="the settings could not be merged${DAEMON_JSON:+ with $DAEMON_JSON}: $FAILURE"
		return 1
	}
	is_valid "$CONFIG_FILE.new" "$@" && mv "$CONFIG_FILE.new" "$CONFIG_FILE"
}

# is_valid FILE ARGUMENT…: will dockerd take it? Asked beforehand where the user has said anything, since dockerd's own
# message would name our file, which nobody wrote. In FAILURE it names theirs.
is_valid() {
	[ -n "$DAEMON_JSON$ENVIRONMENT" ] || return 0
	merged=$1
	shift
	set -f
	IFS=$NEWLINE
	# shellcheck disable=SC2086 # one option per line
	set -- $OPTIONS "$@" "--config-file=$merged"
	unset IFS
	set +f
	FAILURE=$(dockerd --validate "$@" 2>&1) && return
	case "$FAILURE" in
		*'unknown flag: --validate'*) return 0 ;; # before version 23
		*"$merged: "*) FAILURE="${DAEMON_JSON:-the settings of the environment}: ${FAILURE##*"$merged: "}" ;;
	esac
	return 1
}
