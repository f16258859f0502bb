"""The kubeconfig that k3s writes on a master, made usable from elsewhere: its server and its names change.

It is parsed and written again, never replaced as text: "127.0.0.1" and "default" may stand in a certificate's
base64 or in another name too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit

import yaml

from kairos_core.errors import ConfigError, EngineError

MAX_KUBECONFIG = 256 * 1024
"""Characters in a kubeconfig; k3s writes 3,000. The attack: YAML that takes minutes to parse."""

API_PORT = 6443
"""Where k3s serves the Kubernetes API."""


SECTIONS = {"clusters": "cluster", "users": "user", "contexts": "context"}
"""The lists of a kubeconfig, and what each record of them holds beside its name."""


class NotAKubeconfig(Exception):
    """A text is no kubeconfig; says why, and shows none of it: it is a secret."""


@contextmanager
def of_the_engine() -> Iterator[None]:
    """Say of what is no kubeconfig that an engine gave it out. Raises EngineError."""
    try:
        yield
    except NotAKubeconfig as reason:
        raise EngineError(
            f"what the engine gave out is not a kubeconfig: {reason}. Look at the one that it wrote on the master."
        ) from None


class _Loader(yaml.SafeLoader):
    """Takes plain words for text, but for null, true, false and decimals: YAML 1.1 would read 12:30:45 as 45045."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - a class attribute of PyYAML


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), ["t", "f"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^(?:0|-?[1-9][0-9]*)$"), list("-0123456789"))


def server_address(endpoint: str | None, vpn: str | None, lan: str | None, port: int = API_PORT) -> str:
    """Return the URL under which the control plane is reached: elastic IP, else VPN address, else LAN address.

    Raises EngineError when the master has none of them.
    """
    host = endpoint or vpn or lan
    if not host:
        raise EngineError(
            "the master has no address under which others reach it: no elastic IP, VPN or LAN address. "
            "Check that its network is up with `kairos status` on the master."
        )
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def rewrite_kubeconfig(text: str, server: str, name: str) -> str:
    """Point the clusters whose server is a loopback address to `server`, and call what is `default` by `name`.

    `server` is an https URL; without a port, the port of the kubeconfig stays. Certificates and everything else
    are kept. Raises EngineError when `text` is not a kubeconfig (the message shows none of it: it is a secret),
    ConfigError when `server` or `name` cannot be used.
    """
    target = _target(server)
    if not name:
        raise ConfigError("a kubeconfig needs a name for its cluster: give the network id.")
    with of_the_engine():
        config = parse(text)
        require_cluster(config)
        for cluster in records_of(config, "clusters", "cluster"):
            cluster["cluster"]["server"] = _redirected(cluster["cluster"].get("server"), target)
        _rename(config, name)
    return format_yaml(config)


def format_yaml(config: dict[str, Any]) -> str:
    """Return a document as YAML, letters of all scripts readable; of what would not come back so all are escaped."""
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=4096)
    if text.isascii() or yaml.safe_load(text) == config:
        return text
    return yaml.safe_dump(config, sort_keys=False, width=4096)  # PyYAML writes U+0085 bare, and reads a line's end


def _target(server: str) -> SplitResult:
    try:
        target = urlsplit(server)
        usable = target.scheme == "https" and bool(target.hostname) and target.port != 0
    except ValueError:
        usable = False
    if not usable or target.path.strip("/") or target.query or target.username:
        raise ConfigError(f"{server!r} is not the address of an API server: write https://HOST:{API_PORT}.")
    return target


def parse(text: str) -> dict[str, Any]:
    """Read a kubeconfig. Raises NotAKubeconfig."""
    if len(text) > MAX_KUBECONFIG:
        _refuse(f"it has {len(text)} characters, more than {MAX_KUBECONFIG}")
    try:
        config = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark  # the error's own text quotes the line, which may be a key
        _refuse(f"it is not YAML (line {mark.line + 1}, column {mark.column + 1})" if mark else "it is not YAML")
    except (yaml.YAMLError, ValueError, RecursionError):
        _refuse("it is not YAML")
    if not isinstance(config, dict):
        _refuse("it is not a mapping")
    if config.get("kind") != "Config":
        _refuse("it does not say 'kind: Config'")
    return config


def records_of(config: dict[str, Any], section: str, body: str) -> list[dict[str, Any]]:
    """Return a section, a list of `{name: text, <body>: mapping}`. Raises NotAKubeconfig."""
    records = config.get(section) or []
    if not isinstance(records, list):
        _refuse(f"its {section} are not a list")
    for record in records:
        named = isinstance(record, dict) and isinstance(record.get("name"), str)
        if not named or not isinstance(record.get(body), dict):
            _refuse(f"an entry of its {section} has no name or no {body}")
    return records


def _redirected(server: object, target: SplitResult) -> str:
    if not isinstance(server, str):
        _refuse("a cluster has no server")
    try:
        current = urlsplit(server)
        port = target.port or current.port
        host = current.hostname or ""
    except ValueError:
        _refuse("the server of a cluster is not a URL")
    if not _is_loopback(host):
        return server
    bracketed = f"[{target.hostname}]" if ":" in (target.hostname or "") else target.hostname
    return f"https://{bracketed}:{port}" if port else f"https://{bracketed}"


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def _rename(config: dict[str, Any], name: str) -> None:
    for section, body in SECTIONS.items():
        records = records_of(config, section, body)
        names = [record["name"] for record in records]
        if name != "default" and name in names and "default" in names:
            _refuse(f"its {section} have both 'default' and {name!r}")
        for record in records:
            record["name"] = _renamed(record["name"], name)
    for record in records_of(config, "contexts", "context"):
        for part in ("cluster", "user"):
            if part in record["context"]:
                record["context"][part] = _renamed(record["context"][part], name)
    if "current-context" in config:
        config["current-context"] = _renamed(config["current-context"], name)


def _renamed(current: Any, name: str) -> Any:
    return name if current == "default" else current


def require_cluster(config: dict[str, Any]) -> None:
    """Refuse a kubeconfig that names no cluster. Raises NotAKubeconfig."""
    if not records_of(config, "clusters", "cluster"):
        _refuse("it names no cluster")


def _refuse(why: str) -> NoReturn:
    raise NotAKubeconfig(why) from None
