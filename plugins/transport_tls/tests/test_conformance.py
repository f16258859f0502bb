import pytest
from kairos_transport_tls import TlsSettings, TlsTransport

from kairos_core.testing.transports import TRANSPORT_CHECKS


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
async def test_the_transport_passes_every_check_of_the_core(check):
    await check(lambda: TlsTransport(TlsSettings(port=0)))
