# listen.pl PORT COMMAND…: run the command with a socket that listens on the port, by sd_listen_fds(3)'s protocol.
# In perl because Debian's base has it, and a shell cannot listen.
use strict;
use warnings;
use POSIX  ();
use Socket qw(:DEFAULT IPPROTO_IPV6 IPV6_V6ONLY pack_sockaddr_in6 IN6ADDR_ANY);

$^F = 3;    # descriptors up to this one survive exec
my $port   = shift;
my $socket = listening6() || listening4() || die "dind: error: port $port cannot be listened on: $!\n";
POSIX::dup2( fileno($socket), 3 );    # the first descriptor of the protocol
@ENV{qw(LISTEN_FDS LISTEN_PID)} = ( 1, $$ );
exec { $ARGV[0] } @ARGV;
die "dind: error: $ARGV[0]: $!\n";

# Both families on one socket, as dockerd listens on 0.0.0.0; where the kernel has no IPv6, IPv4 alone.
sub listening6 {
    my $both;
    return
         socket( $both, PF_INET6, SOCK_STREAM, 0 )
      && setsockopt( $both, IPPROTO_IPV6, IPV6_V6ONLY,  pack( 'i', 0 ) )
      && setsockopt( $both, SOL_SOCKET,   SO_REUSEADDR, pack( 'i', 1 ) )
      && bind( $both, pack_sockaddr_in6( $port, IN6ADDR_ANY ) )
      && listen( $both, SOMAXCONN )
      && $both;
}

sub listening4 {
    my $one;
    return
         socket( $one, PF_INET, SOCK_STREAM, 0 )
      && setsockopt( $one, SOL_SOCKET, SO_REUSEADDR, pack( 'i', 1 ) )
      && bind( $one, pack_sockaddr_in( $port, INADDR_ANY ) )
      && listen( $one, SOMAXCONN )
      && $one;
}
