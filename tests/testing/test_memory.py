import asyncio
import random

import pytest

from kairos_core.errors import TransportError
from kairos_core.testing.memory import MemoryNetwork, MemoryTransport
from kairos_core.testing.transports import TRANSPORT_CHECKS, RecordingHost, check_transport, running, within


def make_on(network: MemoryNetwork):
    return lambda: MemoryTransport(network)


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
async def test_the_transport_in_memory_passes_the_check_of_a_real_one(check):
    await check(make_on(MemoryNetwork(random.Random(1))))


async def test_it_passes_with_delay_and_jitter_too():
    await check_transport(make_on(MemoryNetwork(random.Random(2), delay=0.001, jitter=0.003)))


async def test_loss_takes_about_its_share_of_the_datagrams_and_the_seed_decides_which():
    async def survivors() -> list[bytes]:
        network = MemoryNetwork(random.Random(3), loss=0.3)
        async with running(make_on(network), RecordingHost("left"), RecordingHost("right")) as (left, right):
            for n in range(1000):
                left.transport.send(n.to_bytes(2), right.address)
            await asyncio.sleep(0.01)
            return [right.host.datagrams.get_nowait()[0] for _ in range(right.host.datagrams.qsize())]

    first = await survivors()
    assert 640 < len(first) < 760
    assert await survivors() == first


async def test_a_cut_path_loses_datagrams_breaks_streams_and_heals():
    network = MemoryNetwork(random.Random(4))
    async with running(make_on(network), RecordingHost("left"), RecordingHost("right")) as (left, right):
        near, far = await left.open_stream(right)
        network.is_cut = lambda source, destination: True
        left.transport.send(b"lost", right.address)
        with pytest.raises(TransportError):
            await near.send(b"lost")
        with pytest.raises(TransportError):
            await within(far.receive())
        with pytest.raises(TransportError, match="nobody listens"):
            await left.transport.connect(right.address)
        network.is_cut = lambda source, destination: False
        left.transport.send(b"healed", right.address)
        assert (await within(right.host.datagrams.get()))[0] == b"healed"
        await left.open_stream(right)


async def test_the_check_catches_a_transport_that_lets_strangers_in(monkeypatch):
    monkeypatch.setattr("kairos_core.testing.memory._refusal", lambda client, server: None)
    check = next(c for c in TRANSPORT_CHECKS if c.__name__ == "check_a_stranger_is_refused")
    with pytest.raises(AssertionError, match="TransportError was due"):
        await check(make_on(MemoryNetwork(random.Random(5))))


async def test_the_check_catches_a_transport_that_reorders_messages(monkeypatch):
    from kairos_core.testing.memory import MemoryStream

    arrive = MemoryStream._arrive

    def arrive_shuffled(stream: MemoryStream) -> None:
        stream._coming.reverse()
        arrive(stream)

    monkeypatch.setattr(MemoryStream, "_arrive", arrive_shuffled)
    check = next(c for c in TRANSPORT_CHECKS if "in_order" in c.__name__)
    with pytest.raises(AssertionError):
        await check(make_on(MemoryNetwork(random.Random(6))))
