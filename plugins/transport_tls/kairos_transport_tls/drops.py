"""What this transport refuses or loses, beside the reasons that all parts share (`kairos_core.Drop`)."""

from enum import StrEnum


class TlsDrop(StrEnum):
    """Why a connection or a datagram came to nothing."""

    # connections that come in
    NOT_TLS = "not_tls"  # no TLS 1.3 handshake: a port scan, a browser, noise
    ABANDONED = "abandoned"  # left during the handshake, most often since it does not trust our key: another token
    CROWDED = "crowded"  # pushed out by newer connections before it had finished its handshake
    TOO_MANY_STREAMS = "too_many_streams"  # a member over its share, or all shares taken
    NO_DESCRIPTORS = "no_descriptors"  # this process or machine has no more file descriptors or memory
    # datagrams that go out
    UNREACHABLE = "unreachable"  # no route, no such interface, IPv6 is off, or a firewall of ours says no
    SEND_BUFFER_FULL = "send_buffer_full"  # faster than the network card takes it
    PATH_MTU = "path_mtu"  # larger than the kernel knows the path to carry
    NOT_AN_ADDRESS = "not_an_address"  # a host name: only streams resolve names
