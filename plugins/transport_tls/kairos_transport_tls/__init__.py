"""Kairos transport: TLS 1.3 streams and UDP datagrams on one port number.

authority.py   the certificates that follow from a network key       der.py   how they are written
contexts.py    TLS contexts, one pair for each accepted key, chosen by the name the client says
lane.py        a connection up to the end of its TLS handshake
frames.py      bytes of a stream <-> whole messages
stream.py      a stream, and the greeting that opens it
dialling.py    streams we open, along a route.py
admission.py   streams that peers open, and their limits
sockets.py     binding and addresses         datagrams.py   the datagram lane
transport.py   all of it as one Transport
"""

from kairos_core import Register, Transport, hookimpl
from kairos_transport_tls.drops import TlsDrop
from kairos_transport_tls.settings import TlsSettings
from kairos_transport_tls.transport import TlsTransport

__all__ = ["TlsDrop", "TlsSettings", "TlsTransport", "register_transport"]


@hookimpl
def register_transport(register: Register[Transport]) -> None:
    """Offer the transport `tls`."""
    register("tls", TlsTransport, settings=TlsSettings, section="p2p.transport")
