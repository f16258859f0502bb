"""`kairos get-kubeconfig`: the way from a running network to kubectl."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from kairos_core.api.client import ApiClient
from kairos_core.cli.options import api_option
from kairos_core.errors import ConfigError, ControlError


@click.command("get-kubeconfig")
@api_option
@click.option(
    "--network-id",
    envvar=["KAIROS_NETWORK_ID", "EDGEVPN_NETWORK_ID"],
    metavar="ID",
    help="Fail unless the agent is in this network ($KAIROS_NETWORK_ID, $EDGEVPN_NETWORK_ID).",
)
@click.option("--merge", is_flag=True, help="Put it into the file of kubectl instead of printing it.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --merge: the file.  [default: the first of $KUBECONFIG, else ~/.kube/config]",
)
@click.option("--context", metavar="NAME", help="With --merge: the name of context, cluster and user.")
@click.option("--replace", is_flag=True, help="With --merge: replace another cluster of that name.")
def get_kubeconfig(  # noqa: PLR0913, PLR0917 - one parameter for each option
    api: str | None, network_id: str | None, merge: bool, file: Path | None, context: str | None, replace: bool
) -> None:
    """Print the kubeconfig of the cluster."""
    if not merge and (file or context or replace):
        raise click.UsageError("--file, --context and --replace belong to --merge.")
    client = ApiClient(api)
    if network_id or (merge and not context):
        actual = client.get("status")["network_id"]
        _check_network(actual, network_id or actual)
        context = context or actual
    kubeconfig = client.text("kubeconfig")
    if merge and context:
        target = merge_into(file or default_file(), kubeconfig, context, replace=replace)
        click.echo(f"merged into {target}; kubectl uses the context {context!r} now", err=True)
    else:
        click.echo(kubeconfig, nl=False)


def default_file() -> Path:
    """Return the file that kubectl writes: the first of $KUBECONFIG, else ~/.kube/config."""
    named = [name for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    return Path(named[0]) if named else Path.home() / ".kube" / "config"


def merge_into(file: Path, kubeconfig: str, name: str, *, replace: bool = False) -> Path:
    """Merge a kubeconfig into a file, whole or not at all; return the file that was written, behind all links.

    Raises ConfigError when the file cannot be read, written or merged into.
    """
    from kairos_core.cluster.merging import merge_kubeconfig
    from kairos_core.runtime.files import write_whole

    target = file.expanduser().resolve()
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(target):
            existing = target.read_text() if target.exists() else ""
            write_whole(target, merge_kubeconfig(existing, kubeconfig, name, replace=replace).encode())
    except OSError as error:
        raise ConfigError(f"cannot merge into {target}: {error.strerror}. It was not changed.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{target} is not text, so no kubeconfig. It was not changed.") from None
    return target


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the lock that kubectl takes (client-go, tools/clientcmd/config.go: lockFile). Raises ConfigError."""
    lock = file.with_name(f"{file.name}.lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise ConfigError(
            f"another program is changing {file}: {lock} is there. Try again; if no program runs, remove that file."
        ) from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _check_network(actual: str, wanted: str) -> None:
    if actual != wanted:
        advice = "Leave --network-id out, or ask an agent of that network with --api."
        raise ControlError(f"the agent is in network {actual!r}, not {wanted!r}. {advice}")
