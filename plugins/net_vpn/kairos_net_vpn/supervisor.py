"""Starts the data plane or takes one over, tells it who the peers are, and starts it again should it ever end."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from kairos_core import NetworkError
from kairos_net_vpn import messages
from kairos_net_vpn.device import TunDevice
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.messages import Ask, Configure, ForgetPeer, Leave, Moved, Ready, SetPeer, Stats
from kairos_net_vpn.program import name_of_program
from kairos_net_vpn.succession import Adopted, Heritage

ANSWER = 20.0
"""Seconds that the data plane has to start or to answer; then it is taken for hung and killed. A packet takes
20 us, so only a machine without any time left comes near it."""
LEAVE = 2.0
"""Seconds that it has to end after it was told to."""
RESTARTS = (0.0, 0.2, 1.0, 5.0)
"""Pauses before it is started again, the last for ever. Counted anew after it has run for a minute."""
REMEMBERED = 30.0
"""Seconds for which peers of a data plane that was taken over stay as they are although the ledger does not name them,
or gossip has not met them: an agent that has just started does not know all yet. Raising it lets in for longer who was
removed meanwhile."""

_log = logging.getLogger(__name__)


class Process(Protocol):
    """What a started data plane and an adopted one have in common."""

    @property
    def pid(self) -> int | None: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int | None: ...
    def kill(self) -> None: ...


class Supervisor:
    """One data plane process and what it should know. The sockets and the device belong to the caller.

    Without a `door` the data plane ends with the agent, however that ends.
    """

    def __init__(
        self,
        configure: Configure,
        udp: socket.socket,
        device: TunDevice,
        dropped: Callable[[str, int], None],
        *,
        door: socket.socket | None = None,
    ) -> None:
        self._configure = configure
        self._udp = udp
        self._device = device
        self._dropped = dropped
        self._door = door
        self._peers: dict[bytes, SetPeer] = {}
        self._inherited: frozenset[bytes] = frozenset()  # peers of a data plane taken over that nobody named yet
        self._remembered_until = 0.0
        self._counted: Counter[str] = Counter()
        self.last: Stats | None = None
        """The newest statistics, and when they were taken (the event loop's time)."""
        self.last_at = 0.0
        self._asking = asyncio.Lock()
        self._process: Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def peers(self) -> Mapping[bytes, SetPeer]:
        """What the data plane has been told."""
        return self._peers

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._process.pid if self._process is not None else None

    async def start(self, heritage: Heritage | None = None) -> None:
        """Start the data plane and wait until it carries packets; one that was taken over does already.

        Raises NetworkError.
        """
        if heritage is None:
            await self._launch()
        else:
            await self._adopt(heritage)
        self._watch = asyncio.create_task(self._restart_whenever_it_ends())

    async def close(self) -> None:
        """End the data plane; on return it has let go of the device."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._end()

    def set_peers(self, peers: Mapping[bytes, SetPeer]) -> None:
        """Tell the data plane what has changed since the last call; nothing is sent when nothing has."""
        remembered = self._remembered()
        known = {key: peer for key, peer in peers.items() if peer.eager or key not in remembered}
        changed = [peer for key, peer in known.items() if self._peers.get(key) != peer]
        self._inherited -= known.keys()
        gone = (self._peers.keys() | self._inherited) - known.keys() - remembered
        self._inherited -= gone
        self._peers = known
        self._tell(*map(ForgetPeer, gone), *changed)

    def _remembered(self) -> frozenset[bytes]:
        """Return the peers that the data plane had before this agent, and keeps although nothing is known of them."""
        return self._inherited if asyncio.get_running_loop().time() < self._remembered_until else frozenset()

    def has_moved(self) -> None:
        """Tell the data plane that this machine's addresses have changed."""
        self._tell(Moved())

    async def stats(self) -> Stats | None:
        """Ask for statistics, and count the drops since the last time; None while there is no data plane.

        One that does not answer in time is killed, and so started again.
        """
        async with self._asking:
            reader, process = self._reader, self._process
            if reader is None or process is None:
                return None
            self._tell(Ask())
            try:
                async with asyncio.timeout(ANSWER):  # not wait_for: before Python 3.12 it may lose a cancellation
                    answer = messages.decode(await reader.readuntil(b"\n"))
            except TimeoutError:
                _log.error("the VPN's data plane did not answer for %.0f s; starting it again", ANSWER)
                _kill(process)
                return None
            except (EOFError, OSError, ValueError):  # it ended, or does not make sense any more
                _kill(process)
                return None
        if not isinstance(answer, Stats):
            return None
        self._count(Counter(answer.drops))
        self.last, self.last_at = answer, asyncio.get_running_loop().time()
        return answer

    def _count(self, drops: Counter[str]) -> None:
        for name, count in (drops - self._counted).items():
            self._dropped(name, count)
        self._counted = drops

    def _tell(self, *told: messages.Message) -> None:
        if self._writer is not None and told:
            self._writer.write(b"".join(messages.encode(message) for message in told))

    # -- the process

    async def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = [theirs.fileno(), self._device.ensure(), self._udp.fileno()]
            if self._door is not None:
                descriptors.append(self._door.fileno())
            self._process = await asyncio.create_subprocess_exec(
                # -P: a module in the current directory must not take the place of ours.
                *(sys.executable, "-P", "-m", "kairos_net_vpn.dataplane", *map(str, descriptors)),
                pass_fds=descriptors,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        self._counted.clear()
        self._inherited = frozenset()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=messages.MAX_LINE)
        self._tell(self._configure)
        await self._expect_ready(reader)
        self._tell(*self._peers.values())
        self._reader = reader

    async def _adopt(self, heritage: Heritage) -> None:
        """Go on with a data plane that runs; one of another version of the program is replaced, on its device."""
        self._process = Adopted(heritage.process)
        control = heritage.control
        self._reader, self._writer = await asyncio.open_connection(sock=control, limit=messages.MAX_LINE)
        if heritage.code != name_of_program():
            _log.info("the VPN's data plane is of another version of the program; starting it anew")
            await self._end()
            await self._launch()
            return
        stats = await self.stats()
        if stats is not None:
            self._inherited = frozenset(peer.key for peer in stats.peers)
            self._remembered_until = asyncio.get_running_loop().time() + REMEMBERED

    async def _expect_ready(self, reader: asyncio.StreamReader) -> None:
        reason = "it ended at once"
        try:
            async with asyncio.timeout(ANSWER):
                answer = messages.decode(await reader.readuntil(b"\n"))
            if isinstance(answer, Ready):
                return
        except TimeoutError:
            reason = f"it was not ready within {ANSWER:.0f} s"
        except (EOFError, OSError, ValueError):
            pass
        await self._end()
        raise NetworkError(
            f"the VPN's data plane cannot be started: {reason}. Its own words are on the agent's standard "
            "error; set p2p.vpn.create: false to do without."
        )

    async def _restart_whenever_it_ends(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while self._process is not None:
            started = loop.time()
            code = await self._process.wait()
            failures = 0 if loop.time() - started > 60 else failures
            self._dropped(VpnDrop.DATAPLANE_DIED, 1)
            _log.error("the VPN's data plane ended (%s); starting it again", "code unknown" if code is None else code)
            failures = await self._relaunch(failures)

    async def _relaunch(self, failures: int) -> int:
        """Try until the data plane runs again; return the failures so far, which set the pause."""
        while True:
            await self._end()
            await asyncio.sleep(RESTARTS[min(failures, len(RESTARTS) - 1)])
            failures += 1
            try:
                await self._launch()
            except (NetworkError, OSError) as error:
                _log.error("%s", error)
            else:
                return failures

    async def _end(self) -> None:
        """Tell the process to end; kill it where that does not help."""
        self._reader = None
        self._tell(Leave())
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._process is None:
            return
        try:
            async with asyncio.timeout(LEAVE):
                await self._process.wait()
        except TimeoutError:
            _kill(self._process)
            await self._process.wait()


def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
