# shellcheck shell=sh
# One voice: what the entrypoint says goes to standard error and begins with "dind:".

log_info() { printf 'dind: %s\n' "$*" >&2; }

log_warn() { printf 'dind: warning: %s\n' "$*" >&2; }

log_error() { printf 'dind: error: %s\n' "$*" >&2; }

# die TEXT…: say in one message why there can be no daemon, and end.
die() {
	log_error "$@"
	exit 1
}
