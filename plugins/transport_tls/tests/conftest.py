import asyncio
import ssl
from contextlib import asynccontextmanager

import pytest
from kairos_transport_tls import TlsSettings, TlsTransport
from kairos_transport_tls.authority import Authority, leaf_pem
from kairos_transport_tls.contexts import ALPN, _load_leaf, server_name

from kairos_core.testing.transports import RecordingHost, running


@pytest.fixture
def make_tls():
    """Make a function that makes transports with these settings, on any free port."""
    return lambda **settings: lambda: TlsTransport(TlsSettings(**{"port": 0, **settings}))


@pytest.fixture
async def member(make_tls):
    """A node that listens on loopback."""
    async with running(make_tls(), RecordingHost("member")) as (started,):
        yield started


@pytest.fixture
def hand_made():
    """Make a client's context by hand: with the leaf that `key` signs for `identity`, or with none."""

    def make(key=None, identity=None, alpn=ALPN):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if key is not None:
            _load_leaf(context, leaf_pem(Authority(key), identity))
        if alpn:
            context.set_alpn_protocols([alpn])
        return context

    return make


@pytest.fixture
def dial(member):
    """Open a connection to the member by hand: plain, or TLS with a context and the key to ask for."""

    @asynccontextmanager
    async def opened(context=None, key=None, name=None):
        name = server_name(key) if key else name
        reader, writer = await asyncio.open_connection(
            member.address.host, member.address.port, ssl=context, server_hostname=name if context else None
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    return opened
