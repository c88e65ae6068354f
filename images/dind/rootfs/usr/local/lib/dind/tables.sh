# shellcheck shell=sh
# What is known about the configuration, as tables: lines of KEY, tab, VALUE. Looking something up starts no process:
# a start asks some twenty times, and on a busy machine each process costs what the daemon then waits for.

NEWLINE='
'
TAB='	'
ANSWER='' # what the last look-up found

# lookup TABLE KEY: put the key's last value into ANSWER; fail where the table has none.
lookup() {
	case "$NEWLINE$1" in
		*"$NEWLINE$2$TAB"*) ;;
		*) return 1 ;;
	esac
	ANSWER=$NEWLINE$1
	ANSWER=${ANSWER##*"$NEWLINE$2$TAB"}
	ANSWER=${ANSWER%%"$NEWLINE"*}
}

# configured KEY DEFAULT: put into ANSWER what will hold, by flag, environment, daemon.json or default. For keys that
# are not lists, and that the flag, too, is called by.
configured() {
	lookup "$ARGUMENTS" "$1" || lookup "$ENVIRONMENT" "$1" || lookup "$FILE" "$1" || ANSWER=$2
}

# read_arguments ARGUMENT…: the table ARGUMENTS of dockerd's flags, in the forms that it takes: --name value,
# --name=value, -n value, -nvalue, and --name alone, which is true.
read_arguments() {
	ARGUMENTS=''
	while [ $# -gt 0 ]; do
		word=$1
		shift
		case "$word" in
			--?*=*) name=${word%%=*} value=${word#*=} ;;
			-[!-]?*) name=${word%"${word#-?}"} value=${word#-?} value=${value#=} ;;
			--?* | -[!-])
				name=$word value=true
				case "${1:--}" in
					-*) ;;
					*) value=$1 && shift ;;
				esac
				;;
			*) continue ;;
		esac
		case "$name" in
			-D) name=debug ;;
			-G) name=group ;;
			-H) name=host ;;
			-b) name=bridge ;;
			-g | --graph) name=data-root ;;
			-l) name=log-level ;;
			-p) name=pidfile ;;
			-s) name=storage-driver ;;
		esac
		ARGUMENTS=$ARGUMENTS${name#--}$TAB$value$NEWLINE
	done
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
	OPTIONS=$OPTIONS$1$NEWLINE
}
