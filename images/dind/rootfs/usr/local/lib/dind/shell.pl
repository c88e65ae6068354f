# shell.pl SHELL…: run an interactive shell, and tell it in the way that it obeys, by SIGHUP, when it is to end.
use strict;
use warnings;

my $shell = fork() // die "dind: error: no shell can be started: $!\n";
if (!$shell) {
    exec {$ARGV[0]} @ARGV or print STDERR "dind: error: $ARGV[0]: $!\n";
    exit 127;
}
$SIG{INT} = $SIG{QUIT} = $SIG{TSTP} = $SIG{TTOU} = 'IGNORE';    # the terminal's, for the shell
$SIG{TERM} = $SIG{HUP} = sub { kill 'HUP', $shell; kill 'CONT', $shell };

1 until waitpid( $shell, 0 ) == $shell;
exit($? & 127 ? 128 + ($? & 127) : $? >> 8);
