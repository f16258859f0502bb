"""Streams that we open: resolve, connect, handshake, greet, all within one deadline."""

from __future__ import annotations

import asyncio
import ssl

from kairos_core import Address, NetworkKey, ProtocolError, TransportError, TransportHost
from kairos_transport_tls.contexts import Contexts, server_name
from kairos_transport_tls.lane import Lane, open_lane
from kairos_transport_tls.route import connected
from kairos_transport_tls.sockets import from_kernel
from kairos_transport_tls.stream import TlsStream

DIAL_TIME = 9.5
"""Seconds for a whole `connect`, under the 10 s that it promises. Less gives slow links up."""


class _Refused(TransportError):
    """The server ended the handshake: our key may be unknown to it."""


class Dialler:
    """Opens streams for one node."""

    def __init__(self, host: TransportHost, contexts: Contexts) -> None:
        self._host, self._contexts = host, contexts
        self._dials: set[asyncio.Task[TlsStream]] = set()
        self._outbound: set[TlsStream] = set()

    async def connect(self, address: Address) -> TlsStream:
        """Open a stream. Raises TransportError, also when the dialler closes meanwhile."""
        dial = asyncio.create_task(self._dial(address))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)
        try:
            return await dial
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and not caller.cancelling():
                raise TransportError(f"cannot reach {address}: the transport was closed meanwhile") from None
            if dial.done() and not dial.cancelled() and dial.exception() is None:
                # Ready just when the caller was cancelled: nobody else will close it.
                await dial.result().close()
            raise

    async def close(self) -> None:
        """Give up what is being opened and close the streams."""
        for dial in self._dials:
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        await asyncio.gather(*(stream.close() for stream in self._outbound))

    async def _dial(self, address: Address) -> TlsStream:
        # The current key, then the clock-free join key. Not all: neighbouring epochs accept each other, so a
        # server that refuses the first has a clock far from ours.
        current, *_, join = self._host.network_keys()
        try:
            async with asyncio.timeout(DIAL_TIME):
                try:
                    return await self._open(address, current)
                except _Refused:
                    return await self._open(address, join)
        except TimeoutError:
            raise TransportError(
                f"cannot reach {address}: no answer within {DIAL_TIME:g} s. Is the machine up, "
                f"and does its firewall let TCP port {address.port} in?"
            ) from None

    async def _open(self, address: Address, key: NetworkKey) -> TlsStream:
        lane, source = await self._shake_hands(address, key)
        try:
            stream = TlsStream(lane, source)
            await self._greet(stream, address)
        except ProtocolError as error:
            lane.abort()
            raise TransportError(f"{address} is not Kairos as we know it: {error}") from error
        except BaseException:
            lane.abort()
            raise
        self._outbound.add(stream)
        stream.when_lost(lambda: self._outbound.discard(stream))
        return stream

    async def _greet(self, stream: TlsStream, address: Address) -> None:
        try:
            await stream.greet()
            await stream.greeted()
        except TransportError as error:
            if stream.peer == self._host.identity.peer_id:
                raise TransportError(
                    f"{address} leads to this node itself, or to a machine that has a copy of its identity"
                ) from error
            raise TransportError(
                f"{address} refused this node: it closed the connection before its greeting. Compare the "
                "tokens of both machines; `kairos status` there counts the reason"
            ) from error

    async def _shake_hands(self, address: Address, key: NetworkKey) -> tuple[Lane, Address]:
        try:
            connection, target = await connected(address, DIAL_TIME)
            lane = await open_lane(connection, self._contexts.client(key), server_name(key))
        except TimeoutError:
            raise
        except (OSError, OverflowError, ValueError) as error:  # the latter: a port, or a name, that is none
            raise _explain(error, address) from error
        return lane, from_kernel(target)


def _explain(error: OSError | OverflowError | ValueError, address: Address) -> TransportError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransportError(
            f"{address} is of another network: its certificate is not of our token. Use one token on both"
        )
    if isinstance(error, ssl.SSLError | ConnectionResetError | ConnectionAbortedError):
        return _Refused(f"{address} ended the TLS handshake ({error}). It has another token, or is not Kairos at all")
    why = getattr(error, "strerror", None) or error
    return TransportError(f"cannot reach {address}: {why}. Does Kairos run there, on this port?")
