"""Which program a service must start to run the agent that speaks here."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kairos_core.errors import ServiceError

NAME = "kairos"


def running_program(called: str, interpreter: str) -> tuple[str, ...]:
    """Return the command line that runs this very installation of Kairos again.

    `called` is sys.argv[0], `interpreter` sys.executable. A link to the script is followed into its venv, so that
    another installation that takes the link over later is not what the service starts; links among the directories
    stay, for those who change versions by them.
    """
    for script in (Path(called), Path(interpreter).with_name(NAME)):
        if script.is_absolute() and script.name == NAME and os.access(script, os.X_OK) and script.is_file():
            return (str(_followed(script)),)
    # -P: a module in the current directory must not take the place of ours.
    return (interpreter, "-P", "-m", "kairos_core.cli")


def program_in(root: Path, program: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a program is called inside of an image. Raises ServiceError when the image does not have it."""
    if root == Path("/"):
        return program
    first = Path(program[0])
    inside = first.relative_to(root) if first.is_relative_to(root) else first.relative_to("/")
    if not os.path.lexists(root / inside):
        raise ServiceError(
            f"the image {root} has no {Path('/') / inside}, so its service would start nothing. Install Kairos there "
            f"first, at the same path as here, or run the one in the image: chroot {root} kairos install --no-now"
        )
    return (str(Path("/") / inside), *program[1:])


def foreign_owner(program: str) -> str | None:
    """Return a file or directory on the way to a program that others than root can change; None when there is none.

    Who can change what root's service starts is root. Only the script and its directory are looked at, which is where a
    venv in somebody's home shows.
    """
    for path in (Path(program), Path(program).parent):
        try:
            found = path.stat()
        except OSError:
            return None
        if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o002:
            return str(path)
    return None


def _followed(script: Path) -> Path:
    for _ in range(40):  # as many as the kernel follows. Source: path_resolution(7)
        if not script.is_symlink():
            break
        script = Path(os.path.normpath(script.parent / os.readlink(script)))
    return script
