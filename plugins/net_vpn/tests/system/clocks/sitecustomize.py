"""Clocks that a test sets, for every Python process that has this directory in its PYTHONPATH.

The file that SHIFTED_CLOCKS names holds two numbers: by how many seconds the machine has slept (which CLOCK_BOOTTIME
counts and CLOCK_MONOTONIC does not), and by how many its wall clock was set.
"""

import mmap
import os
import struct
import time

_genuine_clock, _genuine_time = time.clock_gettime, time.time
_descriptor = os.open(os.environ["SHIFTED_CLOCKS"], os.O_RDONLY)
_shifts = mmap.mmap(_descriptor, 16, prot=mmap.PROT_READ)  # the data plane opens no file later on
os.close(_descriptor)


def _clock_gettime(clock: int) -> float:
    slept: float = struct.unpack_from("dd", _shifts)[0]
    return _genuine_clock(clock) + (slept if clock == time.CLOCK_BOOTTIME else 0.0)


def _time() -> float:
    slept, wall = struct.unpack_from("dd", _shifts)
    return float(_genuine_time() + slept + wall)


time.clock_gettime, time.time = _clock_gettime, _time
