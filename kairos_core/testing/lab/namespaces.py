"""Makes namespaces and enters them, with the programs of util-linux. See unshare(1), nsenter(1), namespaces(7).

Every set of namespaces is held by a process that ends when its standard input closes. So nothing of a lab can
outlive it, even one that is killed with SIGKILL: the kernel closes the pipe, and the end of process 1 of a pid
namespace ends all others in it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kairos_core.errors import KairosError

_PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "mount": "mount",
    "hostname": "hostname",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
_TUN = "/dev/net/tun"


class LabError(KairosError):
    """The lab cannot be made here, or one of its commands failed."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a finished command left: its exit code (negative: killed by that signal) and its text."""

    code: int
    stdout: str
    stderr: str


def check_requirements(*, tunnel: bool) -> None:
    """Raise LabError that names each missing program and its package, or says why there can be no tunnel."""
    missing = {program: package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise LabError(f"the lab needs the programs {', '.join(missing)}. Install them: apt-get install {packages}")
    if tunnel and not os.access(_TUN, os.R_OK | os.W_OK):
        reason = "is missing" if not os.path.exists(_TUN) else f"may not be opened by user {os.geteuid()}"
        raise LabError(
            f"the lab needs {_TUN} for the VPN, which {reason}. Run as root, or as root once: "
            f"mkdir -p /dev/net; [ -e {_TUN} ] || mknod {_TUN} c 10 200; chmod 0666 {_TUN}"
        )


@dataclass(slots=True)
class Namespaces:
    """A set of namespaces and the process that holds them; `pid` is process 1 inside, as seen from here."""

    pid: int
    rootless: bool
    _holder: asyncio.subprocess.Process

    @classmethod
    async def make(cls, command: Sequence[str], *, rootless: bool) -> Namespaces:
        """Start a holder: a command line that unshares, then runs a script that prints `ready PID`.

        Raises LabError with what the command said when it ends before that.
        """
        holder = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        assert holder.stdout is not None
        try:
            word, _, pid = (await holder.stdout.readline()).decode().partition(" ")
            if word != "ready":
                raise LabError(await _refusal(holder, rootless))
        except BaseException:
            with suppress(ProcessLookupError):
                holder.kill()
            await holder.communicate(b"")
            raise
        return cls(int(pid), rootless, holder)

    def enter(self, *kinds: str) -> list[str]:
        """Return the start of a command line that runs the rest in these namespaces (`net`, `mount`, `pid` …)."""
        user = ["--user", "--preserve-credentials"] if self.rootless else []
        return ["nsenter", f"--target={self.pid}", *user, *(f"--{kind}" for kind in kinds)]

    async def close(self, *, at_once: bool = False) -> None:
        """End the holder, and with it every process inside; returns when all are gone. May be called twice.

        `at_once` kills it like a power cut, otherwise it ends by itself after what its script does last.
        """
        if at_once and self._holder.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        await self._holder.communicate(b"")  # closes its standard input


async def _refusal(holder: asyncio.subprocess.Process, rootless: bool) -> str:
    _, stderr = await holder.communicate(b"")
    reason = " ".join(stderr.decode(errors="replace").split()) or f"exit code {holder.returncode}"
    if rootless:
        return (
            f"cannot make a lab as user {os.geteuid()}: {reason}. Run as root, or allow user namespaces: "
            "sysctl user.max_user_namespaces=10000, kernel.unprivileged_userns_clone=1 (Debian), "
            "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
        )
    return (
        f"cannot make namespaces: {reason}. Root here lacks what it needs: "
        "in a container, start it with CAP_SYS_ADMIN and CAP_NET_ADMIN (docker run --privileged)"
    )


async def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> Output:
    """Run a command to its end and return what it said. Raises LabError when it takes longer than `timeout`."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=DEVNULL if stdin is None else PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=env,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate(None if stdin is None else stdin.encode())
    except BaseException as error:
        # The session is the command's own, so this reaches the program behind nsenter too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        if isinstance(error, TimeoutError):
            raise LabError(f"{_shown(command)} did not end within {timeout:g} s") from None
        raise
    return Output(process.returncode or 0, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


async def must_run(command: Sequence[str], *, stdin: str | None = None) -> str:
    """Run a command that has to succeed and return its standard output. Raises LabError with what it said."""
    output = await run(command, stdin=stdin)
    if output.code:
        raise LabError(f"{_shown(command)} failed ({output.code}): {' '.join(output.stderr.split()) or 'no reason'}")
    return output.stdout


def _shown(command: Sequence[str]) -> str:
    # Arguments may hold a secret; the program and the first word after it say enough.
    programs = [word for word in command if not word.startswith("-") and word != "nsenter"]
    return " ".join(Path(word).name for word in programs[:2])
