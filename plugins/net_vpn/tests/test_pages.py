"""Huge pages: what is asked for, and that asking does no harm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kairos_net_vpn.pages import anonymous_areas

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")

MAPS = """\
00400000-0041f000 r--p 00000000 fe:00 247702                             /usr/bin/python3.11
00946000-00a85000 rw-p 00545000 fe:00 247702                             /usr/bin/python3.11
00a85000-00ac8000 rw-p 00000000 00:00 0
3014d000-30c95000 rw-p 00000000 00:00 0                                  [heap]
7efcc70d3000-7efcc7400000 rw-p 00000000 00:00 0
7efcc7400000-7efcc7401000 ---p 00000000 00:00 0
7efcc7500000-7efcc7600000 rw-s 00000000 00:01 3090                       /dev/shm/with spaces (deleted)
7ffd4c4b9000-7ffd4c4da000 rw-p 00000000 00:00 0                          [stack]
"""

PROGRAM = """
from kairos_net_vpn import pages
kept = [bytearray(b"x" * 100_000) for _ in range(80)]
pages.use_huge_pages()
assert all(each == b"x" * 100_000 for each in kept)
with open("/proc/self/smaps_rollup") as rollup:
    print(next(line.split()[1] for line in rollup if line.startswith("AnonHugePages")))
"""


def test_only_private_memory_without_a_file_is_asked_for() -> None:
    assert list(anonymous_areas(MAPS.splitlines())) == [
        (0x00A85000, 0x00AC8000),
        (0x3014D000, 0x30C95000),
        (0x7EFCC70D3000, 0x7EFCC7400000),
    ]


@pytest.mark.skipif(not THP.exists() or "[never]" in THP.read_text(), reason="this kernel gives no huge pages")
def test_what_is_in_memory_lies_on_huge_pages_then_and_is_what_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2048
