# shellcheck shell=sh
# Reading dockerd's command line, in the forms that it takes: --name value, --name=value, -n value, -nvalue.
# A flag without a short form is asked for with `_`.

# argument_values LONG SHORT ARGUMENT…: print every value that the flag was given, one per line.
argument_values() {
	(
		long=--$1 short=-$2
		shift 2
		while [ $# -gt 0 ]; do
			case "$1" in
				"$long"=* | "$short"=*) echo "${1#*=}" ;;
				"$long" | "$short")
					echo "${2:-}"
					[ $# -eq 1 ] || shift
					;;
				"$short"?*) echo "${1#??}" ;;
			esac
			shift
		done
	)
}

# argument_named LONG SHORT ARGUMENT…: is the flag there at all?
argument_named() {
	(
		long=--$1 short=-$2
		shift 2
		for word; do
			case "$word" in
				"$long" | "$long"=* | "$short"*) exit 0 ;;
			esac
		done
		exit 1
	)
}

# asks_only ARGUMENT…: would dockerd answer a question and leave, rather than run?
asks_only() {
	for word; do
		case "$word" in
			-h | --help | -v | --version | --validate | --validate=true) return 0 ;;
		esac
	done
	return 1
}

# option FLAG: add a flag of ours to dockerd's command line, before the user's own.
option() {
	OPTIONS="${OPTIONS:+$OPTIONS
}$1"
}
