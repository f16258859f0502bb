"""Ledgers to begin with: signed entries of many authors, in a file that a gossiper restores."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import msgpack

from kairos_core.protocol.buckets import VALUES
from kairos_core.protocol.clock import HybridClock
from kairos_core.protocol.entry import sign_entry
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import draft
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import parse_token

PER_AUTHOR = 100
VALUE = 64
"""Bytes in each value."""


def write_entries(file: Path, token: str, count: int) -> None:
    """Write this many entries, signed just now, to a file. Takes 100 us for each."""
    network, clock, chance = Keyring(parse_token(token)).network, HybridClock(), random.Random(count)
    raws = []
    for number in range(count):
        if number % PER_AUTHOR == 0:
            author = Identity(chance.randbytes(32))
        unsigned = draft(author.peer_id, VALUES, f"entry/{number}", chance.randbytes(VALUE // 2).hex())
        raws.append(sign_entry(replace(unsigned, hlc=clock.tick(time.time())), author, network).raw)
    file.write_bytes(msgpack.packb(raws))
