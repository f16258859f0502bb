"""What agents say to the data plane, and what becomes of it when its agent is gone.

    agent            data plane
    Configure    ->               over the socket pair that it was started with
                 <-  Ready
    SetPeer, ForgetPeer, Ask  ->  in any order; each Ask gets one Stats
    Leave        ->               the agent ends in order, and the data plane with it, at once
    (end of file)                 the agent crashed or was killed: packets go on for `linger` seconds
    Claim        ->               the next agent, at the door: a named socket that only its user reaches
                 <-  Ready        with descriptors of the TUN device, the UDP socket, the door and this process

Who claims another configuration or speaks another version is the new agent all the same, so the data plane makes room
for it: it lets go of the device and ends. What is no message at all changes nothing and is counted.
"""

from __future__ import annotations

import hmac
import os
import select
import socket
import struct
from collections import Counter
from dataclasses import dataclass

from kairos_net_vpn import messages
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.messages import Claim, Configure, Leave, Message, OtherVersion, Ready
from kairos_net_vpn.peer import NEVER

MAX_CLAIM = 1024
"""Bytes in what a stranger at the door may say before it is sent away; a claim has about 100."""
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): process, user, group


class Lines:
    """Cuts a stream into lines, and holds at most `limit` bytes of an unfinished one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, received: bytes) -> list[bytes]:
        """Return the lines that are complete now. Raises ValueError for one without an end."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        if len(self._rest) > self._limit or any(len(line) > self._limit for line in lines):
            raise ValueError("a line without an end")
        return lines


@dataclass(frozen=True, slots=True)
class Estate:
    """What the data plane hands to the next agent: the descriptors of its device and socket, and what it is."""

    tun: int
    udp: int
    digest: bytes
    code: str


class Control:
    """The connection to the agent, and the door for the next. Nothing here waits, but for the configuration."""

    def __init__(self, connection: socket.socket, door: socket.socket | None) -> None:
        self.is_over = False
        """The data plane is to end."""
        self.ends_at = NEVER
        """When it ends unless an agent comes, in monotonic seconds."""
        self.early: list[Message] = []
        """What came with the configuration."""
        self.poller = select.poll()
        """What the data plane waits with. Not epoll, which the kernel wakes while the process works: 44 times for each
        super-packet that it sends on some paths (docs/decisions/poll-not-epoll.md)."""
        self.drops: Counter[VpnDrop] = Counter()
        self._agent: socket.socket | None = connection
        self._door = door
        self._caller: socket.socket | None = None  # somebody at the door who has said nothing yet
        self._lines, self._caller_lines = Lines(messages.MAX_LINE), Lines(MAX_CLAIM)
        self._unsent = b""
        self._estate: Estate | None = None
        self._linger = 0.0
        self._watch(connection)

    def configuration(self) -> Configure | None:
        """Wait for the first message; None when the agent is gone before. Raises ValueError for any other."""
        lines: list[bytes] = []
        while not lines:
            self.poller.poll()
            assert self._agent is not None
            received = _receive(self._agent)
            if received == b"":
                return None
            lines = self._lines.feed(received or b"")
        configure = messages.decode(lines[0])
        if not isinstance(configure, Configure):
            raise ValueError("the first message to the data plane must configure it")
        self.early = [message for line in lines[1:] if (message := self._read(line)) is not None]
        return configure

    def open_door(self, estate: Estate, linger: float) -> None:
        """Be there for the next agent from now on, for `linger` seconds after this one is gone."""
        self._estate, self._linger = estate, linger
        if self._door is not None:
            self._watch(self._door)

    def serve(self, source: int, event: int, now: float) -> list[Message]:
        """Do what an event of the control sockets asks for; return the messages that are the caller's to obey."""
        if self._agent is not None and source == self._agent.fileno():
            return self._serve_agent(event, now)
        if self._door is not None and source == self._door.fileno():
            self._answer_door()
        elif self._caller is not None and source == self._caller.fileno():
            self._hear_caller()
        return []

    def reply(self, message: Message) -> None:
        """Send the agent what its socket takes now: one that does not read must not stop the packets.

        Nor may it make answers pile up: it is cut off.
        """
        self._unsent += messages.encode(message)
        self._send_more()
        if self._agent is not None and len(self._unsent) > messages.MAX_LINE:
            self.drops[VpnDrop.BAD_MESSAGE] += 1
            self._unsent = b""
            self._agent.shutdown(socket.SHUT_RDWR)  # the read side sees the end

    def close(self) -> None:
        """Close all sockets: the agent sees it, and knows that the device is free if that was closed before."""
        for each in (self._caller, self._door, self._agent):
            if each is not None:
                each.close()

    # -- the agent

    def _serve_agent(self, event: int, now: float) -> list[Message]:
        if event & select.POLLOUT:
            self._send_more()
        if not event & ~select.POLLOUT or self._agent is None:
            return []
        received = _receive(self._agent)
        if received is None:
            return []
        try:
            lines = self._lines.feed(received)
        except ValueError:
            self.drops[VpnDrop.BAD_MESSAGE] += 1
            lines, received = [], b""
        if not received:
            self._lose_agent(now)
        return [message for line in lines if (message := self._read(line)) is not None]

    def _read(self, line: bytes) -> Message | None:
        try:
            message = messages.decode(line)
        except ValueError:
            self.drops[VpnDrop.BAD_MESSAGE] += 1
            return None
        if isinstance(message, Leave):
            self.is_over = True
        return message

    def _lose_agent(self, now: float) -> None:
        assert self._agent is not None
        self._forget(self._agent)
        self._agent, self._unsent = None, b""
        self.ends_at = now + self._linger
        self.is_over = self.is_over or self._door is None

    def _send_more(self) -> None:
        if self._agent is None:
            self._unsent = b""
            return
        try:
            self._unsent = self._unsent[self._agent.send(self._unsent) :]
        except BlockingIOError:
            pass
        except ConnectionError:
            return  # the read side sees the end
        self.poller.modify(self._agent.fileno(), select.POLLIN | (select.POLLOUT if self._unsent else 0))

    # -- the door

    def _answer_door(self) -> None:
        """Let in whoever is of our user, one at a time: the newest, since an earlier one may have hung."""
        assert self._door is not None
        try:
            caller, _ = self._door.accept()
        except OSError:  # it went away again, or there is no descriptor left
            return
        if _user_of(caller) != os.geteuid():
            caller.close()
            return
        self._dismiss_caller()
        self._caller, self._caller_lines = caller, Lines(MAX_CLAIM)
        self._watch(caller)

    def _hear_caller(self) -> None:
        assert self._caller is not None
        received = _receive(self._caller)
        if received is None:
            return
        try:
            lines = self._caller_lines.feed(received)
            said = [messages.decode(line) for line in lines]
        except OtherVersion:
            self._make_room()
        except ValueError:
            self.drops[VpnDrop.BAD_MESSAGE] += 1
            self._dismiss_caller()
        else:
            if said or not received:
                self._judge(said[0] if said else None)

    def _judge(self, message: Message | None) -> None:
        if isinstance(message, Leave):
            self._make_room()
        elif not isinstance(message, Claim) or self._estate is None:
            self._dismiss_caller()
        elif not hmac.compare_digest(message.digest, self._estate.digest):
            self._make_room()
        elif self._agent is None:
            self._hand_over(self._estate)
        else:
            self._dismiss_caller()

    def _make_room(self) -> None:
        """End, unless an agent is there: then it is the caller that is one too many."""
        if self._agent is None:
            self.is_over = True
        else:
            self._dismiss_caller()

    def _hand_over(self, estate: Estate) -> None:
        """Make the caller the agent."""
        assert self._caller is not None
        assert self._door is not None
        ready = messages.encode(Ready(estate.code))
        try:
            with open(os.pidfd_open(os.getpid()), "rb", buffering=0) as process:
                lent = [estate.tun, estate.udp, self._door.fileno(), process.fileno()]
                socket.send_fds(self._caller, [ready], lent)
        except OSError:  # it is gone already, or Linux before 5.3
            self._dismiss_caller()
            return
        self._agent, self._caller = self._caller, None
        self._lines = Lines(messages.MAX_LINE)
        self.ends_at = NEVER

    def _dismiss_caller(self) -> None:
        if self._caller is not None:
            self._forget(self._caller)
            self._caller = None

    # -- sockets

    def _watch(self, source: socket.socket) -> None:
        source.setblocking(False)
        self.poller.register(source.fileno(), select.POLLIN)

    def _forget(self, source: socket.socket) -> None:
        self.poller.unregister(source.fileno())
        source.close()


def _receive(source: socket.socket) -> bytes | None:
    """Return what came, empty at the end; None when nothing is there."""
    try:
        return source.recv(1 << 16)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _user_of(caller: socket.socket) -> int:
    credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
