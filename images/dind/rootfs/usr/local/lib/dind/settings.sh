# shellcheck shell=sh
# Settings from three places, none of them ever named twice: dockerd refuses to start when a key of daemon.json is
# also a flag (https://github.com/moby/moby/issues/22339). What the environment asks for and what the entrypoint
# works out is merged with the user's daemon.json into one file; a flag that the user gives is left alone.
# docs/settings.md is the table for users.

# setting KIND KEY VALUE: ask for a key of daemon.json. Kinds: string, number, list, pools, mtu; with `auto-` in
# front it is only a proposal, made where the user says nothing. merge.jq reads these lines.
setting() { SETTINGS=$SETTINGS$1$TAB$2$TAB$3$NEWLINE; }

# read_environment: variable, kind and key of the setting, check of each word, what a good value looks like.
read_environment() {
	SETTINGS='' ENVIRONMENT=''
	while read -r variable kind key check good; do
		eval "value=\${$variable:-}"
		[ -n "$value" ] || continue
		check_words "$variable" "$value" "$check" "$good"
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
	is_number "${DIND_STOP_TIMEOUT:-0}" || is_fraction "${DIND_STOP_TIMEOUT}" || die "DIND_STOP_TIMEOUT: '$DIND_STOP_TIMEOUT' is not a number of seconds."
}

# check_words VARIABLE VALUE CHECK GOOD: every word of a list, or end with a message. A pool has a comma within.
check_words() {
	set -f
	[ "$3" = pool ] && IFS='; ' || IFS=',; '
	for word in $2; do
		"is_$3" "$word" || die "$1: '$word' is not $4."
	done
	set +f
	unset IFS
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

# write_daemon_json: merge, and point dockerd at the result; without anything to merge, at nothing.
write_daemon_json() {
	[ -n "$SETTINGS" ] || return 0
	# shellcheck disable=SC2034 # read by supervise
	CONFIG_FILE=$STATE/daemon.json
	merge_daemon_json || die 'the settings could not be merged.'
}

# merge_daemon_json: into CONFIG_FILE, whole or not at all.
merge_daemon_json() {
	jq -n --arg settings "$SETTINGS" --arg arguments "$ARGUMENTS" --slurpfile file "${DAEMON_JSON:-/dev/null}" \
		-f /usr/local/lib/dind/merge.jq >"$CONFIG_FILE.new" && mv "$CONFIG_FILE.new" "$CONFIG_FILE"
}
