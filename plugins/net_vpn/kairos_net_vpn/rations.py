"""Token buckets: how often something may be done, by anybody or by each host. Bounded in time and space.

Each is one number, the time at which the bucket will be full again (the "virtual scheduling" form of the leaky
bucket). Source: ITU-T I.371, annex A.
"""

from __future__ import annotations

HOST_RATE, HOST_BURST = 20.0, 5.0
"""Handshakes in a second from one host, and at once. Those of WireGuard's implementations; a host with 20 nodes
behind one address still gets through, since a node needs one handshake in two minutes."""
MAX_HOSTS = 4096
"""Hosts counted at a time, 0.6 MB. A host is forgotten when its bucket is full again, after a quarter second."""


class Bucket:
    """So many in a second, and as many at once."""

    __slots__ = ("_full_at", "_pause", "_slack")

    def __init__(self, rate: float) -> None:
        self._pause, self._slack = 1 / rate, 1 - 0.5 / rate  # half a pause more: sums of floats are not exact
        self._full_at = float("-inf")

    def has(self, now: float) -> bool:
        """Say whether there is one."""
        return self._full_at - now <= self._slack

    def take(self, now: float) -> bool:
        """Take one; False when there is none."""
        begin = max(self._full_at, now)
        if begin - now > self._slack:
            return False
        self._full_at = begin + self._pause
        return True


class Rations:
    """A bucket for each host."""

    def __init__(self) -> None:
        self._full_at: dict[bytes, float] = {}
        self._swept = float("-inf")

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, host: bytes, now: float) -> bool:
        """Take one of this host's; False when it has none left, or there are too many hosts."""
        begin = max(self._full_at.get(host, now), now)
        if begin - now > (HOST_BURST - 0.5) / HOST_RATE:
            return False
        if host not in self._full_at and len(self._full_at) >= MAX_HOSTS and not self._sweep(now):
            return False
        self._full_at[host] = begin + 1 / HOST_RATE
        return True

    def _sweep(self, now: float) -> bool:
        """Forget who has a full bucket again, at most once in the time that one needs for it."""
        if now < self._swept + HOST_BURST / HOST_RATE:
            return False
        self._swept = now
        self._full_at = {host: at for host, at in self._full_at.items() if at > now}
        return len(self._full_at) < MAX_HOSTS
