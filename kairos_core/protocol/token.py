"""The network token: base64 of a YAML document, as EdgeVPN writes it, with one additional key of ours.

    kairos: {version, quorum, check}            (ours; EdgeVPN ignores it)
    otp: {dht: {interval, key, length}, crypto: {interval, key, length}}
    room, rendezvous, mdns: str        max_message_size: bytes

`check` finds a token that lost its end when it was copied: cut inside a key it would still be YAML, and the
token of another network. Ours comes first, so that no cut can take it away.

Whoever holds the token is a member of the network. No error or repr here shows any of it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import yaml

from kairos_core.errors import ConfigError

MAX_TOKEN = 16 * 1024
"""Characters in a token; real ones have about 700. Stops a pasted file from being parsed as YAML."""

KEY_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890"
KEY_LENGTH = 43
"""Characters in each generated secret: 43 x log2(62) = 256 bits."""

MIN_KEY = 16
"""Characters that a secret needs at least: 128 bits (RFC 4226, R6). EdgeVPN never made fewer than 32."""

MAX_KEY = 256
MAX_INTERVAL = (1 << 63) - 1
"""Seconds: how EdgeVPN writes a token that never rotates."""


@dataclass(frozen=True, slots=True)
class Otp:
    """One rotating secret: `interval` seconds an epoch."""

    interval: int
    key: str = field(repr=False)
    length: int = KEY_LENGTH


@dataclass(frozen=True, slots=True)
class OtpPair:
    """The rotating secrets: one for the rendezvous, one for the encryption."""

    dht: Otp
    crypto: Otp


@dataclass(frozen=True, slots=True)
class Terms:
    """What Kairos adds: the version of the format, and the votes that decide who initialises a cluster."""

    version: int = 1
    quorum: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """The secret that makes a machine a member of the network."""

    otp: OtpPair
    room: str = field(default="", repr=False)
    rendezvous: str = field(default="", repr=False)
    mdns: str = field(default="", repr=False)
    max_message_size: int = 20 << 20
    kairos: Terms | None = None


def parse_token(text: str) -> Token:
    """Read a token. Raises ConfigError that says what is wrong with it and shows none of it."""
    document = _decode(text)
    token = _token(_Part(document))
    if not _is_whole(token, document):
        raise ConfigError(
            "the network token is not whole: its end is missing, or a character was changed. Copy it again, "
            "or make a new one with: kairos generate-token"
        )
    return token


class _Part:
    """A mapping of the token, and where it stands. Reading a wrong value raises ConfigError that shows none of it."""

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self._values, self._path = values, path

    def has(self, name: str) -> bool:
        return name in self._values

    def part(self, name: str) -> _Part:
        found = self._value(name)
        if not isinstance(found, dict):
            self._refuse(name, "input should be keys and values")
        return _Part(found, f"{self._path}{name}.")

    def text(self, name: str, least: int = 0, most: int = MAX_TOKEN) -> str:
        found = self._value(name)
        if not isinstance(found, str):
            self._refuse(name, "input should be a valid string")
        if len(found) < least:
            self._refuse(name, f"string should have at least {least} characters")
        if len(found) > most:
            self._refuse(name, f"string should have at most {most} characters")
        return found

    def number(self, name: str, most: int) -> int:
        """Return a whole number from 1 on."""
        found = self._value(name)
        if not (isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 100):
            self._refuse(name, "input should be a valid integer")
        if int(found) < 1:
            self._refuse(name, "input should be greater than 0")
        if int(found) > most:
            self._refuse(name, f"input should be less than or equal to {most}")
        return int(found)

    def _value(self, name: str) -> Any:
        if name not in self._values:
            self._refuse(name, "field required")
        return self._values[name]

    def _refuse(self, name: str, reason: str) -> NoReturn:
        raise ConfigError(
            f"the network token is damaged: {self._path}{name}: {reason}. Copy it again as a whole, "
            "or make a new one with: kairos generate-token"
        )


def _token(part: _Part) -> Token:
    otp = part.part("otp")
    return Token(
        otp=OtpPair(_otp(otp.part("dht")), _otp(otp.part("crypto"))),
        max_message_size=part.number("max_message_size", MAX_INTERVAL) if part.has("max_message_size") else 20 << 20,
        kairos=_terms(part.part("kairos")) if part.has("kairos") else None,
        **{name: part.text(name) for name in ("room", "rendezvous", "mdns") if part.has(name)},
    )


def _otp(part: _Part) -> Otp:
    length = part.number("length", 44) if part.has("length") else KEY_LENGTH
    return Otp(part.number("interval", MAX_INTERVAL), part.text("key", MIN_KEY, MAX_KEY), length)


def _terms(part: _Part) -> Terms:
    return Terms(
        version=part.number("version", 1) if part.has("version") else 1,
        quorum=part.number("quorum", 1000) if part.has("quorum") else None,
    )


def _is_whole(token: Token, document: dict[str, Any]) -> bool:
    if token.kairos is None:
        return "max_message_size" in document  # what EdgeVPN writes last
    return bool(document["kairos"].get("check") == _checksum(token))


def _checksum(token: Token) -> str:
    parts = [token.kairos.quorum if token.kairos else None, token.room, token.rendezvous, token.mdns]
    for otp in (token.otp.dht, token.otp.crypto):
        parts += [otp.interval, otp.key, otp.length]
    text = "\n".join(map(str, [*parts, token.max_message_size]))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _decode(text: str) -> dict[str, Any]:
    advice = "Copy it again as a whole, or make a new one with: kairos generate-token"
    compact = "".join(text.split())
    if not compact:
        raise ConfigError(f"the network token is empty. {advice}")
    if len(compact) > MAX_TOKEN:
        raise ConfigError(f"the network token has {len(compact)} characters, more than {MAX_TOKEN}. {advice}")
    try:
        raw = base64.b64decode(compact, validate=True)
    except ValueError:  # binascii.Error, and what is not ASCII
        raise ConfigError(
            f"the network token is not base64 ({len(compact)} characters: is its end cut off?). {advice}"
        ) from None
    try:
        # Without YAML's guesses, as Go reads it into a string: a room named `yes` or `0123` stays one.
        document = yaml.load(raw, yaml.CBaseLoader)  # noqa: S506 - makes strings, lists and maps only
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"the network token is base64 of something that is not YAML. {advice}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"the network token holds no settings. {advice}")
    return document


def format_token(token: Token) -> str:
    """Write a token as one line of base64: ours, then the keys in EdgeVPN's order."""
    document = asdict(token)
    ours = document.pop("kairos")
    if ours:
        written = {name: value for name, value in ours.items() if value is not None}
        document = {"kairos": {**written, "check": _checksum(token)}, **document}
    return base64.b64encode(yaml.safe_dump(document, sort_keys=False).encode()).decode()


def new_token(pick: Callable[[str], str], interval: int = 3600, quorum: int | None = None) -> Token:
    """Make a token whose keys rotate every `interval` seconds.

    `pick` returns one character of the alphabet it is given and must be cryptographically random
    (`secrets.choice`). `quorum` is the number of votes that decides who initialises a cluster: with at most
    2 x quorum - 1 nodes that may vote, two clusters are impossible.
    """

    def key() -> str:
        return "".join(pick(KEY_ALPHABET) for _ in range(KEY_LENGTH))

    return Token(
        otp=OtpPair(dht=Otp(interval=interval, key=key()), crypto=Otp(interval=interval, key=key())),
        room=key(),
        rendezvous=key(),
        mdns=key(),
        kairos=Terms(quorum=quorum),
    )
