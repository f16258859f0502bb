"""Starts the data plane, tells it who the peers are, and starts it again should it ever end."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import Counter
from collections.abc import Callable, Mapping

from kairos_core import NetworkError
from kairos_net_vpn import messages
from kairos_net_vpn.device import TunDevice
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.messages import Ask, Configure, ForgetPeer, Moved, Ready, SetPeer, Stats

ANSWER = 20.0
"""Seconds that the data plane has to start or to answer; then it is taken for hung and killed. A packet takes
20 us, so only a machine without any time left comes near it."""
LEAVE = 2.0
"""Seconds that it has to end after its control socket closed."""
RESTARTS = (0.0, 0.2, 1.0, 5.0)
"""Pauses before it is started again, the last for ever. Counted anew after it has run for a minute."""

_log = logging.getLogger(__name__)


class Supervisor:
    """One data plane process and what it should know. The socket and the device belong to the caller."""

    def __init__(
        self,
        configure: Configure,
        udp: socket.socket,
        device: TunDevice,
        dropped: Callable[[str, int], None],
    ) -> None:
        self._configure = configure
        self._udp = udp
        self._device = device
        self._dropped = dropped
        self._peers: dict[bytes, SetPeer] = {}
        self._counted: Counter[str] = Counter()
        self.last: Stats | None = None
        """The newest statistics, and when they were taken (the event loop's time)."""
        self.last_at = 0.0
        self._asking = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
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

    async def start(self) -> None:
        """Start the data plane and wait until it carries packets. Raises NetworkError."""
        await self._launch()
        self._watch = asyncio.create_task(self._restart_whenever_it_ends())

    async def close(self) -> None:
        """End the data plane; on return it has let go of the device."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._end()

    def set_peers(self, peers: Mapping[bytes, SetPeer]) -> None:
        """Tell the data plane what has changed since the last call; nothing is sent when nothing has."""
        changed = [peer for key, peer in peers.items() if self._peers.get(key) != peer]
        gone = [ForgetPeer(key) for key in self._peers.keys() - peers.keys()]
        self._peers = dict(peers)
        self._tell(*gone, *changed)

    def has_moved(self) -> None:
        """Tell the data plane that this machine's addresses have changed."""
        self._tell(Moved())

    async def stats(self) -> Stats | None:
        """Ask for statistics, and count the drops since the last time; None while there is no data plane.

        One that does not answer in time is killed, and so started again.
        """
        async with self._asking:
            reader = self._reader
            if reader is None:
                return None
            self._tell(Ask())
            try:
                async with asyncio.timeout(ANSWER):  # not wait_for: before Python 3.12 it may lose a cancellation
                    answer = messages.decode(await reader.readuntil(b"\n"))
            except TimeoutError:
                _log.error("the VPN's data plane did not answer for %.0f s; starting it again", ANSWER)
                self._kill()
                return None
            except (EOFError, OSError, ValueError):
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
            descriptors = (theirs.fileno(), self._device.ensure(), self._udp.fileno())
            self._process = await asyncio.create_subprocess_exec(
                # -P: a module in the current directory must not take the place of ours.
                *(sys.executable, "-P", "-m", "kairos_net_vpn.dataplane", *map(str, descriptors)),
                pass_fds=descriptors,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        self._counted.clear()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=messages.MAX_LINE)
        self._tell(self._configure)
        await self._expect_ready(reader)
        self._tell(*self._peers.values())
        self._reader = reader

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
            _log.error("the VPN's data plane ended with %s; starting it again", code)
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
        """Close the control socket, which ends the process; kill it where that does not help."""
        self._reader = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._process is None:
            return
        try:
            async with asyncio.timeout(LEAVE):
                await self._process.wait()
        except TimeoutError:
            self._kill()
            await self._process.wait()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
