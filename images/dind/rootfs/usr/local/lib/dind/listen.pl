#!/usr/bin/perl -w
# listen.pl COMMAND-FILE GROUP ADDRESS…: listen on the addresses (unix://PATH, tcp://HOST:PORT) at once, so that who
# comes early waits instead of being refused. When the file is there, become the command in it, with the sockets by
# sd_listen_fds(3)'s protocol. The file holds a PATH and the command's words, each with a NUL after it.
# In perl because Debian's base has it, and a shell cannot listen. Without its Socket, but where a name has to be looked
# up, and without its warnings, for which -w stands: to load these takes most of the time until somebody listens.
use strict;

# Of Linux: asm-generic/socket.h, in.h, in6.h
my ( $UNIX, $INET, $INET6, $STREAM ) = ( 1, 2, 10, 1 );
my ( $SOL_SOCKET, $SO_REUSEADDR, $IPPROTO_IPV6, $IPV6_V6ONLY, $SOMAXCONN ) = ( 1, 2, 41, 26, 4096 );

my $FIRST = 3;      # descriptor of the protocol
my $ASIDE = 200;    # descriptors that are surely free

my ( $file, $group, @addresses ) = @ARGV;
my $parent = getppid;
$SIG{$_} = 'DEFAULT' for qw(INT QUIT);    # a shell's background jobs ignore them
$^F = 2 + @addresses;                     # descriptors up to this one survive exec
my @sockets = map { listening($_) || fail("$_ cannot be listened on: $!") } @addresses;
to_the_front() if grep { fileno( $sockets[$_] ) != $FIRST + $_ } 0 .. $#sockets;
until ( -e $file ) {
    exit 0 if getppid != $parent;    # the entrypoint is gone
    select undef, undef, undef, 0.002;
}
open my $in, '<', $file or fail("$file: $!");
( $ENV{PATH}, my @command ) = split /\0/, do { local $/ = undef; <$in> };
@ENV{qw(LISTEN_FDS LISTEN_PID)} = ( scalar @sockets, $$ );
exec { $command[0] } @command or fail("$command[0]: $!");

sub fail {
    print STDERR "dind: error: @_.\n";
    exit 1;
}

# Where the entrypoint has inherited descriptors, as from rootlesskit, the protocol's are theirs. POSIX is slow to load.
sub to_the_front {
    require POSIX;
    POSIX::dup2( fileno( $sockets[$_] ), $ASIDE + $_ ) for 0 .. $#sockets;
    for ( 0 .. $#sockets ) {
        POSIX::dup2( $ASIDE + $_, $FIRST + $_ );
        POSIX::close( $ASIDE + $_ );
    }
}

sub listening {
    my ($address) = @_;
    return on_path($1) if $address =~ m{^unix://(.+)$};
    my ( $host, $port ) = $address =~ m{^tcp://\[?(.*?)\]?:(\d+)$};
    return on_any($port) if $host =~ /^(?:0\.0\.0\.0|::)?$/;
    require Socket;
    my ( $failure, $found ) = Socket::getaddrinfo( $host, $port, { socktype => $STREAM } );
    fail("$address cannot be listened on: $failure") if $failure;
    return bound( $found->{family}, $found->{addr} );
}

# As dockerd makes it: for the group, and for nobody else.
sub on_path {
    my ($path) = @_;
    my $gid = $group =~ /^\d+$/ ? $group : getgrnam $group;
    fail("there is no group '$group'") if !defined $gid && $group ne 'docker';
    unlink $path;
    my $mask   = umask 0117;
    my $socket = bound( $UNIX, pack 'S a*', $UNIX, "$path\0" );
    umask $mask;
    chown -1, $gid, $path if $socket && defined $gid;
    return $socket;
}

# Both families on one socket, as dockerd listens on 0.0.0.0; where the kernel has no IPv6, IPv4 alone.
sub on_any {
    my ($port) = @_;
    return bound( $INET6, pack 'S n x4 x16 x4', $INET6, $port )
        || bound( $INET, pack 'S n x4 x8', $INET, $port );
}

sub bound {
    my ( $family, $address ) = @_;
    socket my $socket, $family, $STREAM, 0 or return;
    setsockopt $socket, $SOL_SOCKET, $SO_REUSEADDR, pack( 'i', 1 );
    setsockopt $socket, $IPPROTO_IPV6, $IPV6_V6ONLY, pack( 'i', 0 ) if $family == $INET6;
    return bind( $socket, $address ) && listen( $socket, $SOMAXCONN ) && $socket;
}
