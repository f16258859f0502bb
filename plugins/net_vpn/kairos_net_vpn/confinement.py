"""Gives up what the data plane does not need: it parses strangers' datagrams and holds the keys.

It is lent descriptors that are open already, so it needs no capability at all: neither to send, nor for the ioctls of
the TUN device. It stays the same user: whoever asks at its door is recognised by that. Most of what the user root could
still do, Landlock takes away, as far as the kernel has it: to write, read, run and truncate files, to signal processes,
to use TCP. What it does not cover is the mode and owner of files. There is no bound on memory (RLIMIT_AS): a Python
program without memory fails anywhere, and what it holds is bounded by the peers (`table.MAX_PEERS`).

Sources: capabilities(7), capset(2), prctl(2), landlock(7), core(5).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64
# the same on all architectures
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH, _READ_FILE, _READ_DIRECTORY = 1, 1 << 2, 1 << 3
_VERSION = 1
_FILES = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Which rights to files each version of Landlock added: the first all but linking elsewhere, truncating, and the ioctls
of devices that are opened later (linux/landlock.h; Linux 5.13, 5.19, 6.2 and 6.10)."""
_TCP = {4: 1 | 2}  # to bind and to connect: Linux 6.7
_SCOPES = {6: 1 | 2}  # abstract Unix sockets and signals reach nobody outside: Linux 6.12

_libc = ctypes.CDLL(None, use_errno=True)


def give_up_privileges() -> list[str]:
    """Drop all capabilities for good, and keep the keys out of core files and of other processes' reach.

    Returns what the kernel refused, a sentence each: there is nothing better to do than to go on.
    """
    steps: dict[str, Callable[[], None]] = {
        "the bounding set stays": _drop_bounding_set,
        "ambient capabilities stay": lambda: _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL),
        "capabilities stay": _drop_capabilities,
        "a program it starts may gain privileges": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "its memory may be read by its user": lambda: _prctl(_PR_SET_DUMPABLE, 0),
        "its memory may be dumped": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    }
    return [refusal for what, step in steps.items() if (refusal := _refusal_of(what, step))]


def shut_files(sources: Sequence[str] = ()) -> list[str]:
    """Give up opening, making, removing and running files, but for reading what lies in the directories of `sources`.

    These are where Python finds modules: it imports some, like codecs, only at the moment it needs them. Returns what
    the kernel refused; nothing where it has no Landlock.
    """
    refusal = _refusal_of("files stay open to it", lambda: _restrict_files(sources))
    return [refusal] if refusal else []


def _refusal_of(what: str, step: Callable[[], None]) -> str:
    try:
        step()
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return f"{what}: {reason}"
    return ""


def _drop_bounding_set() -> None:
    for capability in range(_MAX_CAPABILITIES):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # beyond the last that this kernel has
                return
            raise


def _drop_capabilities() -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)))  # effective, permitted and inheritable, 64 bits each


def _restrict_files(sources: Sequence[str]) -> None:
    version = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 0 and ctypes.get_errno() in (errno.ENOSYS, errno.EOPNOTSUPP):
        return
    _check(version)
    rights = [sum(value for since, value in each.items() if since <= version) for each in (_FILES, _TCP, _SCOPES)]
    attributes = struct.pack("=3Q", *rights)  # a kernel whose structure is shorter takes zeros behind it
    ruleset = _libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    _check(ruleset)
    try:
        for source in sources:
            with suppress(FileNotFoundError):
                _allow_reading(ruleset, source)
        _check(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow_reading(ruleset: int, source: str) -> None:
    path = os.open(source, os.O_PATH | os.O_CLOEXEC)
    try:
        access = _READ_FILE | (_READ_DIRECTORY if os.path.isdir(source) else 0)
        rule = struct.pack("=Qi", access, path)
        _check(_libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(path)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
