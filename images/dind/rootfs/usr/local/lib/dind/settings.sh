# shellcheck shell=sh
# Settings from three places, none of them ever named twice: dockerd refuses to start when a key of daemon.json is
# also a flag (https://github.com/moby/moby/issues/22339). What the environment asks for and what the entrypoint
# works out is merged with the user's daemon.json into one file; a flag that the user gives is left alone.
# docs/settings.md is the table for users.

# setting KIND KEY VALUE: ask for a key of daemon.json. Kinds: string, number, list, pools, mtu; with `auto-` in
# front it is only a proposal, made where the user says nothing. merge.jq reads these lines.
setting() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$STATE/settings"; }

# read_environment: variable, kind and key of the setting, check of each word, what a good value looks like.
read_environment() {
	: >"$STATE/settings"
	while read -r variable kind key check good; do
		eval "value=\${$variable:-}"
		[ -n "$value" ] || continue
		for word in $(echo "$value" | tr ',;' "$([ "$kind" = pools ] && echo ', ' || echo '  ')"); do
			"is_$check" "$word" || die "$variable: '$word' is not $good."
		done
		setting "$kind" "$key" "$value"
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
	is_number "${DIND_STOP_TIMEOUT:-0}" || die "DIND_STOP_TIMEOUT: '$DIND_STOP_TIMEOUT' is not a number of seconds."
}

is_number() {
	case "$1" in
		'' | *[!0-9]* | ??????*) return 1 ;;
	esac
}

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
		*.*.*.*.* | *..* | .* | *.) return 1 ;;
		*.*.*.*) ! echo "$1" | grep -q '[0-9]\{4\}\|25[6-9]\|2[6-9][0-9]\|[3-9][0-9][0-9]\|[a-fA-F]' ;;
		*) return 1 ;;
	esac
}

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

# read_daemon_json ARGUMENT…: note which keys the user's file names, and the values that are not lists.
read_daemon_json() {
	FILE_ENTRIES=''
	DAEMON_JSON=$(argument_values config-file _ "$@" | tail -n 1)
	if [ -n "$DAEMON_JSON" ]; then
		[ -r "$DAEMON_JSON" ] || die "--config-file $DAEMON_JSON cannot be read."
	else
		DAEMON_JSON=${DEFAULT_DAEMON_JSON:-/etc/docker/daemon.json}
		[ -e "$DAEMON_JSON" ] || DAEMON_JSON=''
	fi
	[ -n "$DAEMON_JSON" ] || return 0
	FILE_ENTRIES=$(jq -r 'to_entries[] | [.key, (.value | tostring)] | @tsv' "$DAEMON_JSON" 2>&1) ||
		die "$DAEMON_JSON is not a JSON object: $FILE_ENTRIES"
}

# file_value KEY: print what the user's file says; fail where it is silent.
file_value() {
	printf '%s\n' "$FILE_ENTRIES" | {
		while IFS='	' read -r key value; do
			[ "$key" != "$1" ] || {
				printf '%s\n' "$value"
				exit 0
			}
		done
		exit 1
	}
}

# config_value KEY SHORT DEFAULT ARGUMENT…: the value that will hold, by flag, environment, file or default. For
# keys that are no lists, and whose flag has the key's name.
config_value() {
	(
		key=$1 short=$2 default=$3
		shift 3
		value=$(argument_values "$key" "$short" "$@" | tail -n 1)
		[ -n "$value" ] || value=$(sed -n "s/^string	$key	//p" "$STATE/settings")
		[ -n "$value" ] || value=$(file_value "$key") || value=$default
		echo "$value"
	)
}

# write_daemon_json ARGUMENT…: merge, and point dockerd at the result; without anything to merge, at nothing.
write_daemon_json() {
	[ -s "$STATE/settings" ] || return 0
	flags=$(printf '%s\n' "$@" | sed -n 's/^--\([a-z-]*\).*/\1/p; s/^-s.*/storage-driver/p; s/^-l.*/log-level/p; s/^-g.*/data-root/p')
	jq -n --rawfile settings "$STATE/settings" --arg flags "$flags" --slurpfile file "${DAEMON_JSON:-/dev/null}" \
		-f /usr/local/lib/dind/merge.jq >"$STATE/daemon.json" || die 'the settings could not be merged.'
	# shellcheck disable=SC2034 # read by supervise
	CONFIG_FILE=$STATE/daemon.json
}
