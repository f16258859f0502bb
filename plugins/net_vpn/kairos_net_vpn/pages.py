"""Puts what the packet path touches on huge pages: the interpreter's objects, and the buffers.

A packet that comes after a pause finds nothing in the caches, and each page of 4 KiB that it touches costs a walk
through the page tables, twice as long in a virtual machine. Of pages of 2 MiB there are few. The memory in use stays
the same, since only what is there already is moved together.

Sources: madvise(2); linux/mman.h, MADV_HUGEPAGE, and MADV_COLLAPSE since Linux 6.1.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator

_MAPS = "/proc/self/maps"
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_HUGE = 1 << 21
"""Bytes of a huge page on x86-64, and on ARM with pages of 4 KiB; where it is another size nothing comes of it."""

_libc = ctypes.CDLL(None, use_errno=True)


def use_huge_pages() -> None:
    """Ask for huge pages under all private memory that this process has now. Where there are none, nothing happens.

    Takes some milliseconds, since what is in use is copied: not while packets wait. Needs to read /proc.
    """
    try:
        with open(_MAPS) as maps:
            areas = list(anonymous_areas(maps))
    except OSError:
        return
    for start, end in areas:
        first, last = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if first < last:
            _advise(first, last, _MADV_HUGEPAGE)
            _advise(first, last, _MADV_COLLAPSE)


def anonymous_areas(maps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each writable private area without a file, from the lines of proc_pid_maps(5)."""
    for line in maps:
        span, rights, _, _, inode, *name = line.split()
        if rights == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, _, end = span.partition("-")
            yield int(start, 16), int(end, 16)


def _advise(start: int, end: int, advice: int) -> None:
    # What it says is not asked: a kernel that cannot, or has no huge page left, changes nothing.
    _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)
