"""Which of several ways to a peer is used, by what their answers took."""

from __future__ import annotations

from typing import Any

from kairos_net_vpn.paths import Underground


def test_of_two_ways_that_are_as_fast_the_one_with_smaller_headers_is_taken(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    alice.meet(bob)
    bob.meet(alice)
    peer, paths = alice.knows(bob).peer, alice.tunnel.paths
    paths._underground = Underground(headers=lambda endpoint: 48 if ":" in endpoint[0] else 28)
    ipv6, ipv4 = ("2001:db8::1", 7373), ("192.0.2.1", 7373)
    peer.endpoint = ipv6
    for endpoint, rtt, chosen in (
        (ipv6, 0.0010, ipv6),
        (ipv4, 0.0015, ipv6),
        (ipv4, 0.0013, ipv4),
        (ipv6, 0.0010, ipv4),  # a little faster is no reason to go back
        (ipv6, 0.0009, ipv6),
    ):
        paths._consider(peer, endpoint, rtt, wire.now)
        assert peer.endpoint == chosen
