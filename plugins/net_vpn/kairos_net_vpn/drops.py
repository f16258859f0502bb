"""The names of what the tunnel throws away. The node counts each with `vpn_` before it; see `kairos status`.

This module and all others on a packet's journey import nothing of `kairos_core`: the data plane is a process of its
own, which so loads in 0.1 s and 27 MB; with the plugin's other half it would be twice the time and 34 MB. When it runs
it has 38 MB: 11 MB are buffers, and each peer with sessions takes 27 KB.
"""

from __future__ import annotations

from enum import StrEnum


class VpnDrop(StrEnum):
    """Why a packet, a datagram or a statement of a peer was not taken."""

    # packets of this machine, on their way out
    NOT_IP = "not_ip"  # neither IPv4 nor IPv6, or shorter than its header says
    NO_ROUTE = "no_route"  # nobody holds the destination address (multicast and broadcast included)
    NO_SESSION = "no_session"  # a second packet came while the handshake was under way, or it never succeeded
    NO_ENDPOINT = "no_endpoint"  # the peer's underlay address is not known
    UNREACHABLE = "unreachable"  # the kernel has no way to the peer's underlay address
    OVERSIZED = "oversized"  # the datagram is larger than the underlay takes
    SEND_FULL = "send_full"  # the socket's buffer is full
    # datagrams from the underlay
    TRUNCATED = "truncated"  # shorter than its type needs
    MALFORMED = "malformed"  # of the right type, but not of its format
    UNKNOWN_KIND = "unknown_kind"  # a type that WireGuard does not have
    COOKIE = "cookie"  # under load: a handshake without proof of its address got a cookie instead of an answer
    BAD_MAC = "bad_mac"  # not made for our key: a stranger, or a probe
    UNKNOWN_PEER = "unknown_peer"  # a handshake of somebody whose key is not in the ledger (yet)
    BAD_KEY = "bad_key"  # a public key that gives no shared secret
    STALE_TIMESTAMP = "stale_timestamp"  # a handshake that came before, or an older one
    FLOODED = "flooded"  # handshakes of one peer or address, or of all, in too short a time
    UNKNOWN_INDEX = "unknown_index"  # for a session that we do not have (any more)
    EXPIRED = "expired"  # under a session older than it may be
    REPLAYED = "replayed"  # this very datagram came before, or it is older than the window
    UNSEAL = "unseal"  # authentication failed: altered, forged, or under another token
    INCOMPLETE = "incomplete"  # a datagram of the same group was lost, and did not come again
    UNNEEDED = "unneeded"  # it was asked for again, and came twice: it had only been overtaken
    NOT_KEPT = "not_kept"  # the peer asks for a datagram again that is not kept any more, or for too many
    # paths and relays
    PROBE_FLOOD = "probe_flood"  # a peer asks too often whether its path works
    UNASKED = "unasked"  # an answer to a question that was not asked, or is long forgotten
    NO_RELAY = "no_relay"  # the peer through which another is reached is not there (any more)
    RELAY_REFUSED = "relay_refused"  # asked to relay to a peer that we do not reach directly, or that is no node
    RELAY_FLOOD = "relay_flood"  # more to relay between two peers than they may
    RELAY_LOOP = "relay_loop"  # a relayed datagram asks to be relayed
    RELAY_FORGED = "relay_forged"  # a relay names another origin than the peer that sealed it
    # packets that a peer sealed
    SOURCE_MISMATCH = "source_mismatch"  # its source address is not this peer's
    NOT_OURS = "not_ours"  # its destination is not this node
    LOOPED = "looped"  # the datagram itself came through the tunnel
    TUN_REFUSED = "tun_refused"  # the kernel did not take the packet
    # beside the packets
    TABLE_FULL = "table_full"  # more peers than the data plane holds
    DATAPLANE_DIED = "dataplane_died"  # the process ended and was started again
    BAD_MESSAGE = "bad_message"  # what came from the agent, or at the data plane's door, is no message
    BAD_TOPIC = "bad_topic"  # a peer published something that is not a VPN entry


class Refused(Exception):
    """A peer's bytes break the rules: counted under `drop`, never fatal."""

    def __init__(self, drop: VpnDrop) -> None:
        super().__init__(drop.value)
        self.drop = drop
