"""Records that a stranger or a hostile member can send: whatever is sealed with right keys, and whatever becomes of it.

An input is a row of moves: the members seal something, datagrams that they sealed are put together, altered and
delivered, or time passes. See victim.py for what must hold after each.
"""

from __future__ import annotations

from choices import Choices
from kairos_net_vpn.peer import Endpoint
from kairos_net_vpn.records import CHACHA, KIND, LAST, SIDE, SUPER
from member import SESSIONS, Head, Member
from plaintexts import headers, plaintext
from victim import ALICE, CAROL, MEMBERS, Victim

_CHUNKS = (1456, 100, 17, 1, 32000)
_MAX_POOL = 256


class Attack:
    """One input's moves against one victim."""

    def __init__(self, data: bytes) -> None:
        self.choices = choices = Choices(data)
        lacks_vnet, lacks_offloads, behind, relayed = (choices.chance() for _ in range(4))
        self.victim = Victim(vnet=not lacks_vnet, offloads=not lacks_offloads, behind=behind, relayed=relayed)
        self.pool: list[bytes] = []
        """Datagrams that the members have sealed, for each to be sent once, twice or never."""

    def run(self) -> None:
        """Make all moves, at most 64."""
        moves = (
            *(self.seal, self.seal_super, self.deliver, self.deliver_altered),
            *(self.deliver_raw, self.deliver_parts, self.pass_time),
        )
        for _ in range(64):
            if not self.choices:
                break
            self.choices.pick(moves)()
            self.victim.check()
        self.deliver()
        self.victim.check()
        self.victim.check_dave()

    # -- what is sealed

    def _member(self) -> tuple[Member, int]:
        return self.choices.pick((ALICE, CAROL)), self.choices.pick((1, 0, 2)) % SESSIONS

    def _head(self, right: Head) -> Head:
        """Return a header that is right, or lies in one field."""
        choices = self.choices
        lie = choices.below(16)
        if lie == 1:
            return Head(choices.below(256), right.members, right.group, right.stride, right.number)
        if lie == 2:
            return Head(right.kind, choices.below(256), right.group, right.stride, right.number)
        if lie == 3:
            return Head(right.kind, right.members, choices.below(256), right.stride, right.number)
        if lie == 4:
            return Head(right.kind, right.members, right.group, choices.below(1 << 16), right.number)
        if lie == 5:
            return Head(right.kind, right.members, right.group, right.stride, choices.below(1 << 48))
        return right

    def _put(self, member: Member, session: int, head: Head, plain: bytes, chunk: int) -> None:
        self.pool += member.seal(session, self._head(head), plain, chunk)
        del self.pool[:-_MAX_POOL]

    def seal(self) -> None:
        """Seal one group of any kind."""
        choices = self.choices
        member, session = self._member()
        kind = choices.below(4) | choices.pick((0, LAST, CHACHA, LAST | CHACHA))
        plain = plaintext(choices, kind & KIND, member, self.victim.peer(member), self.pool)[:70000]
        chunk = choices.pick(_CHUNKS)
        members = min(255, -(-(len(plain) + 16) // chunk))
        self._put(member, session, Head(kind, members, number=member.numbers[session]), plain, chunk)
        member.numbers[session] += 1

    def seal_super(self) -> None:
        """Seal a super-packet in up to six groups, each with headers of its own where the input says so."""
        choices = self.choices
        member, session = self._member()
        flags, members = SUPER | choices.pick((0, CHACHA)), 1 + choices.below(4)
        chunk = choices.pick(_CHUNKS[:2])
        groups, gso_size = 1 + choices.below(6), choices.pick((100, 1, 16, 1400))
        room = members * chunk - 16
        first = headers(choices, member.number, 0, gso_size)
        stride = max(1, room - len(first))
        total = stride * (groups - 1) + 1 + choices.below(stride)
        head = bytearray(first)
        length = len(head) - 10 + total
        at, size = (12, length) if head[10] >> 4 == 4 else (14, length - 40)
        head[at : at + 2] = (size & 0xFFFF).to_bytes(2)
        filler = choices.octets(1)
        for group in range(groups):
            is_last = group == groups - 1
            mine = choices.altered(bytes(head), 1)
            slice_ = filler * (total - stride * group if is_last else stride)
            plain = mine + slice_[: room - len(mine)]
            needed = -(-(len(plain) + 16) // chunk)
            what = Head(flags | (LAST if is_last else 0), needed, group, stride, member.numbers[session])
            self._put(member, session, what, plain, chunk)
        member.numbers[session] += groups

    # -- what is delivered

    def _source(self) -> Endpoint:
        stranger, inside = (f"203.0.113.{self.choices.below(256)}", 1), ("10.1.0.1", 7000)
        return self.choices.pick((ALICE.endpoint, ALICE.endpoint, CAROL.endpoint, stranger, inside))

    def _name(self) -> bytes:
        """Return the name of a session, as it is in a datagram."""
        return self.choices.pick(MEMBERS).indices[self.choices.below(SESSIONS)].to_bytes(4, "little")

    def deliver(self) -> None:
        """Deliver all that waits, in order, as a kernel would put it together."""
        source, together = self._source(), self.choices.chance()
        pool, self.pool = self.pool, self.pool[-8:] if self.choices.chance() else []
        self._send(pool, source, together=not together)

    def deliver_altered(self) -> None:
        """Deliver some of it: out of order, twice, altered, cut short, under another session's name."""
        choices = self.choices
        chosen = [choices.pick(self.pool) for _ in range(1 + choices.below(8)) if self.pool]
        for at, datagram in enumerate(chosen):
            match choices.below(8):
                case 1:
                    chosen[at] = choices.altered(datagram)
                case 2:
                    chosen[at] = datagram[: choices.below(len(datagram) + 1)]
                case 3:
                    chosen[at] = self._name() + datagram[4:]
                case 4:
                    chosen[at] = datagram + choices.octets(choices.below(40))
                case 5:
                    chosen[at] = datagram[:4] + choices.altered(datagram[4:16]) + datagram[16:]
        self._send(chosen, self._source(), together=choices.chance())

    def deliver_raw(self) -> None:
        """Deliver bytes that nobody sealed, of any size, under the name of a session or not."""
        choices = self.choices
        size = 1 + choices.below(choices.pick((20, 100, 2000)))
        index = self._name()
        names = choices.pick((index, choices.octets(4), b"\4\0\0\0" + index, b"\1\0\0\0", b"\2\0\0\0" + index))
        one = (names + choices.octets(16)).ljust(size, choices.octets(1))[:size]
        wire = (one * (1 + choices.below(80)))[:60000]
        self.victim.receive(wire[: len(wire) - choices.below(size)], size, self._source())

    def deliver_parts(self) -> None:
        """Deliver the first parts of more groups than may wait, and of some all the others."""
        member, session = self._member()
        groups = []
        for _ in range(1 + self.choices.below(24)):
            plain = plaintext(self.choices, SIDE, member, self.victim.peer(member), [])[:2000]
            groups.append(member.seal_true(session, Head(SIDE), plain, 1 + len(plain) // 2))
        self._send([group[0] for group in groups], member.endpoint, together=False)
        for _ in range(self.choices.below(4)):
            self._send(self.choices.pick(groups)[1:], member.endpoint, together=False)

    def _send(self, datagrams: list[bytes], source: Endpoint, *, together: bool) -> None:
        """Send datagrams one by one, or runs of one size together, of which the last may be shorter."""
        run: list[bytes] = []
        for datagram in (*datagrams, b""):
            size = len(run[0]) if run else len(datagram)
            is_full = not together or len(run) == 128 or size * (len(run) + 1) > 65000
            if run and (is_full or len(datagram) > size or len(run[-1]) < size or not datagram):
                self.victim.receive(b"".join(run), size, source)
                run = []
            if datagram:
                run.append(datagram)

    def pass_time(self) -> None:
        """Let time pass, and the victim say something."""
        self.victim.wait(self.choices.pick((0.1, 0.6, 2.5, 20.0, 100.0, 200.0)))
        if self.choices.chance():
            self.victim.say(self.choices.pick((ALICE, CAROL)))


def attack(data: bytes) -> None:
    """Play an input; fail when the victim does not bear it."""
    Attack(data).run()
