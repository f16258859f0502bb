"""The transport `tls`: streams over TLS 1.3, mutually authenticated by the token, and datagrams over UDP."""

from __future__ import annotations

from kairos_core import Address, Stream, Transport, TransportError, TransportHost
from kairos_transport_tls.admission import Admission
from kairos_transport_tls.contexts import Contexts
from kairos_transport_tls.datagrams import DatagramLane
from kairos_transport_tls.dialling import Dialler
from kairos_transport_tls.settings import TlsSettings
from kairos_transport_tls.sockets import bind


class TlsTransport(Transport):
    """TLS 1.3 streams and UDP datagrams on one port number. Can be started once."""

    def __init__(self, settings: TlsSettings | None = None) -> None:
        self._settings = settings or TlsSettings()
        self._datagrams: DatagramLane | None = None
        self._dialler: Dialler | None = None
        self._admission: Admission | None = None

    async def start(self, host: TransportHost) -> int:
        if self._admission is not None:
            raise TransportError("the transport was started before. Make a new one")
        sockets = bind(self._settings)
        contexts = Contexts(host)
        self._datagrams = DatagramLane(sockets.udp, host)
        self._dialler = Dialler(host, contexts)
        self._admission = Admission(host, contexts)
        self._admission.listen(sockets.tcp)
        return sockets.port

    def send(self, datagram: bytes, destination: Address) -> None:
        if self._datagrams is not None:
            self._datagrams.send(datagram, destination)

    async def connect(self, address: Address) -> Stream:
        if self._dialler is None:
            raise TransportError(f"cannot reach {address}: the transport is not running. Start it first")
        return await self._dialler.connect(address)

    async def close(self) -> None:
        if self._datagrams is not None:
            self._datagrams.close()
        dialler, self._dialler = self._dialler, None
        if dialler is not None:
            await dialler.close()
        if self._admission is not None:
            await self._admission.close()
