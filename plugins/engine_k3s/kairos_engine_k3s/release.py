"""What k3s' releases look like: names of their files, URLs, checksums, channels. Pure.

Source: the assets of https://github.com/k3s-io/k3s/releases, and install.sh of k3s (setup_verify_arch,
get_release_version, download_hash).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

RELEASES = "https://github.com/k3s-io/k3s/releases/download"
CHANNELS = "https://update.k3s.io/v1-release/channels"
STABLE = "stable"
"""The channel of whoever names a mirror and no version, as in install.sh."""

_VERSION = re.compile(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?\+k3s[0-9A-Za-z.-]*\Z")
_CHANNEL = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*\Z")
_PLACE = re.compile(r"(https?://[^\s/?#]+|file://(localhost)?(?=/))(/[^\s?#]*)?\Z")
_SUM = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(\S+)\Z")

# By machine, as uname names it: the end of the program's name, and what the other files call it.
_MACHINES = {
    "x86_64": ("", "amd64"),
    "amd64": ("", "amd64"),
    "aarch64": ("-arm64", "arm64"),
    "arm64": ("-arm64", "arm64"),
    "armv8l": ("-armhf", "arm"),
    "armv7l": ("-armhf", "arm"),
    "armv6l": ("-armhf", "arm"),
}


@dataclass(frozen=True, slots=True)
class Assets:
    """What the files of a release are called that this machine needs; of `images` one, the first that there is."""

    program: str
    sums: str
    images: tuple[str, ...]


def assets_of(machine: str) -> Assets:
    """Return the names for a kind of machine; one that k3s has no files for gets the names they would have."""
    suffix, name = _MACHINES.get(machine, (f"-{machine}", machine))
    images = tuple(f"k3s-airgap-images-{name}.tar{end}" for end in (".zst", ".gz", ""))
    return Assets(f"k3s{suffix}", f"sha256sum-{name}.txt", images)


def asset_url(releases: str, version: str, name: str) -> str:
    """Return where a file of a release is; the + of a version is no + in a path of the web."""
    return f"{releases.rstrip('/')}/{quote(version, safe='')}/{name}"


def channel_url(channels: str, channel: str) -> str:
    """Return whom to ask for the version that a channel has now."""
    return f"{channels.rstrip('/')}/{channel}"


def parse_sums(text: str) -> dict[str, str]:
    """Return the digest of each file in a checksum file, as sha256sum(1) writes it; other lines are left out."""
    matches = (_SUM.match(line.strip()) for line in text.splitlines())
    return {match[2]: match[1].lower() for match in matches if match}


def parse_channel(answer: str) -> str | None:
    """Return the version that a channel's answer names, None when it names none.

    The answer is the URL that the server redirects to, whose last part is the version, or (from a mirror of
    plain files) the version itself.
    """
    try:
        last = unquote(urlsplit(answer.strip()).path.rpartition("/")[2])
    except ValueError:
        return None
    return last if _VERSION.match(last) else None


def version_told(output: str) -> str:
    """Return the version alone, of what k3s tells of itself: `v1.31.4+k3s1 (a562d090)`."""
    return (output.split() or [""])[0]


def checked_version(value: str) -> str:
    """Return a version of k3s. Raises ValueError."""
    if value and not _VERSION.match(value):
        raise ValueError(f"{value!r} is no version of k3s; write it as its releases are called, like v1.31.4+k3s1")
    return value


def checked_channel(value: str) -> str:
    """Return the name of a channel. Raises ValueError."""
    if value and not _CHANNEL.match(value):
        raise ValueError(f"{value!r} is no channel of k3s; take stable, latest or a minor version like v1.31")
    return value


def checked_place(value: str) -> str:
    """Return the URL of a mirror. Raises ValueError, which does not show it: it may hold a login or a key."""
    if "@" in value:  # anywhere: a password may hold a slash, too
        raise ValueError("a URL with a login in it would show in logs; use a mirror that needs none")
    if value and not _PLACE.match(value):
        raise ValueError("expected an https, http or file URL without ? and #, like https://mirror.example/k3s")
    return value
