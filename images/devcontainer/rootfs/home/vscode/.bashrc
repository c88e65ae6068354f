# What an interactive shell reads first. It is yours to change.
case $- in
	*i*) ;;
	*) return ;;
esac
HISTCONTROL=ignoreboth
shopt -s checkwinsize histappend
PS1='\u@\h:\w\$ '
alias ls='ls --color=auto' grep='grep --color=auto'
