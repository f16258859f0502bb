"""Measures a data plane from within, without a word in it: Python imports this first, from PYTHONPATH.

In the process of `kairos_net_vpn.dataplane`, and in no other, the system calls of the packet path and the ciphers are
replaced by functions that call them and note the time. What lies between two of them is the interpreter's, and is
noted under the one that came before. On SIGUSR1 all is written to $KAIROS_BENCH_PROBE/PID.json.

What it costs itself, about half a microsecond for each call, is measured on a function that does nothing and taken
off. It works for whatever the packet path is made of, as long as that goes through `os`, `io.FileIO`, `socket`,
`select.poll` and the ciphers of `cryptography`.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

TRIALS = 20_000


class Stopwatch:
    """Notes [calls, ns inside, ns of the interpreter afterwards] under each name."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}
        self._last = self.stages["start"] = [0, 0, 0]
        self._ended = time.perf_counter_ns()

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls and notes."""
        stage = self.stages.setdefault(name, [0, 0, 0])
        clock = time.perf_counter_ns

        def timed(*arguments: Any, **options: Any) -> Any:
            began = clock()
            self._last[2] += began - self._ended
            try:
                return call(*arguments, **options)
            finally:
                self._ended = ended = clock()
                self._last = stage
                stage[0] += 1
                stage[1] += ended - began

        return timed


def own_cost() -> tuple[float, float]:
    """Return the ns that the stopwatch adds to the inside of a call and to what comes after it."""

    def nothing(_: object) -> None:
        return None

    began = time.perf_counter_ns()
    for _ in range(TRIALS):
        nothing(None)
    bare = (time.perf_counter_ns() - began) / TRIALS  # the loop is in it too, which is a few ns
    watch = Stopwatch()
    timed = watch.around("nothing", nothing)
    for _ in range(TRIALS):
        timed(None)
    calls, inside, after = watch.stages["nothing"]
    return max(0.0, inside / calls - bare), after / calls


def timed_cipher(watch: Stopwatch, kind: type[Any]) -> type[Any]:
    """Return a class like a cipher's whose work is timed."""

    class Timed:
        generate_key = getattr(kind, "generate_key", None)

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._cipher = kind(*arguments, **options)
            for method, name in (("encrypt", "seal"), ("decrypt", "open")):
                for word in (method, f"{method}_into"):
                    if hasattr(self._cipher, word):
                        setattr(self, word, watch.around(name, getattr(self._cipher, word)))

    return Timed


def timed_file(watch: Stopwatch) -> type[Any]:
    """Return a class like io.FileIO whose reading into a buffer is timed."""
    kind = io.FileIO

    class Timed:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._file = kind(*arguments, **options)
            self.readinto = watch.around("tun_read", self._file.readinto)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    return Timed


def timed_poll(watch: Stopwatch) -> type[Any]:
    """Return a class like select.poll whose waiting is timed."""
    kind = select.poll

    class Timed:
        def __init__(self, *arguments: Any) -> None:
            self._poller = kind(*arguments)
            self.poll = watch.around("wait", self._poller.poll)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._poller, name)

    return Timed


def install(directory: str) -> None:
    """Put the stopwatch around everything."""
    from cryptography.hazmat.primitives.ciphers import aead
    from kairos_net_vpn import confinement

    confinement.shut_files = lambda sources: []  # what it measures is written to a file when it is asked
    watch = Stopwatch()
    vars(io)["FileIO"] = timed_file(watch)
    for module, names, stage in (
        (os, ("read", "readv"), "tun_read"),
        (os, ("write", "writev"), "tun_write"),
        (socket.socket, ("send", "sendto", "sendmsg"), "udp_send"),
        (socket.socket, ("recv", "recvfrom", "recvmsg", "recv_into", "recvfrom_into", "recvmsg_into"), "udp_receive"),
    ):
        for name in names:
            setattr(module, name, watch.around(stage, getattr(module, name)))
    for name in ("AESGCM", "ChaCha20Poly1305"):
        setattr(aead, name, timed_cipher(watch, getattr(aead, name)))
    from kairos_net_vpn.small import Sodium  # it takes the classes as they are now

    Sodium.seal = watch.around("seal", Sodium.seal)  # type: ignore[method-assign]
    vars(select)["poll"] = timed_poll(watch)
    cost = own_cost()

    def tell(_number: int, _frame: object) -> None:
        document = {"stages": watch.stages, "own_cost": cost, "now": time.perf_counter_ns()}
        new = f"{directory}/{os.getpid()}.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(document, file)
        os.replace(new, f"{directory}/{os.getpid()}.json")

    signal.signal(signal.SIGUSR1, tell)


if "kairos_net_vpn.dataplane" in sys.orig_argv and (_directory := os.environ.get("KAIROS_BENCH_PROBE")):
    install(_directory)
