"""The sockets on which the API is served: a unix socket for this machine's root, TCP, or what systemd passed us."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping
from contextlib import closing, suppress
from pathlib import Path

from kairos_core.errors import ControlError

_BACKLOG = 64
_SYSTEMD_FIRST = 3  # sd_listen_fds(3): passed sockets begin at descriptor 3


def unix_listener(path: Path) -> socket.socket:
    """Listen on a unix socket of mode 0600; a missing directory is made with mode 0700. Removes a stale socket.

    Raises ControlError when another process serves it, or when it is not a socket.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sock.bind(str(path))
        path.chmod(0o600)  # before listen(): until then nobody can connect
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ControlError(f"cannot listen on {path}: {_reason(error)}. Give the API another path.") from None
    return sock


def tcp_listener(host: str, port: int) -> socket.socket:
    """Listen on a TCP address. Raises ControlError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        advice = "Stop what holds the port, or give the API another address."
        raise ControlError(f"cannot listen on {host}:{port}: {_reason(error)}. {advice}") from None


def inherited_listener(environment: MutableMapping[str, str]) -> socket.socket | None:
    """Take the socket that systemd's socket activation passed us, or None (sd_listen_fds(3)).

    The variables are removed, so that no child takes the socket for its own. Raises ControlError when more than
    one socket, or one that does not listen, was passed.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = environment.pop("LISTEN_FDS", "0")
    del environment["LISTEN_PID"]
    environment.pop("LISTEN_FDNAMES", None)
    if count != "1":
        raise ControlError(f"systemd passed {count} sockets for the API, expected 1: fix the .socket unit.")
    sock = socket.socket(fileno=_SYSTEMD_FIRST)
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ControlError("the socket that systemd passed does not listen: use ListenStream in the .socket unit.")
    sock.set_inheritable(False)
    return sock


def remove_socket(path: Path, identity: os.stat_result) -> None:
    """Remove our unix socket, unless another agent has put its own there since."""
    with suppress(OSError):
        if os.path.samestat(path.lstat(), identity):
            path.unlink()


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there; if its directory is at fault, bind says so
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"cannot listen on {path}: it is not a socket. Move it away, or give another path.")
    if _is_served(path):
        raise ControlError(f"cannot listen on {path}: another agent answers there. Stop it, or give another path.")
    path.unlink(missing_ok=True)


def _is_served(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # full backlog or no permission: somebody is there
    return True


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
