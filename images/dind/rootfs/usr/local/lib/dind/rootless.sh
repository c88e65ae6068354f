# shellcheck shell=sh
# The daemon of a user who is not root, as docker:dind-rootless has it.

require_rootless() {
	die 'rootless: not yet'
}
