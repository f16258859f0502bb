"""The network token: base64 of a YAML document, as EdgeVPN writes it, with one additional key of ours.

    otp: {dht: {interval, key, length}, crypto: {interval, key, length}}
    room, rendezvous, mdns: str        max_message_size: bytes
    kairos: {version, quorum, network}          (ours; EdgeVPN ignores it)

Whoever holds the token is a member of the network. No error or repr here shows any of it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kairos_core.errors import ConfigError

MAX_TOKEN = 16 * 1024
"""Characters in a token; real ones have about 700. Stops a pasted file from being parsed as YAML."""

KEY_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890"
KEY_LENGTH = 43
"""Characters in each generated secret: 43 x log2(62) = 256 bits."""

_Secret = Annotated[str, Field(repr=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Otp(_Part):
    """One rotating secret: `interval` seconds an epoch (EdgeVPN's never-rotating tokens use 2^63 - 1)."""

    interval: int = Field(gt=0, lt=1 << 63)
    key: _Secret = Field(min_length=1, max_length=256)
    length: int = Field(default=KEY_LENGTH, gt=0, le=44)


class OtpPair(_Part):
    """The rotating secrets: one for the rendezvous, one for the encryption."""

    dht: Otp
    crypto: Otp


class Terms(_Part):
    """What Kairos adds: the version of the format, and the votes that decide who initialises a cluster."""

    version: int = Field(default=1, ge=1, le=1)
    quorum: int | None = Field(default=None, ge=1, le=1000)


class Token(_Part):
    """The secret that makes a machine a member of the network."""

    otp: OtpPair
    room: _Secret = ""
    rendezvous: _Secret = ""
    mdns: _Secret = ""
    max_message_size: int = Field(default=20 << 20, gt=0)
    kairos: Terms | None = None


def parse_token(text: str) -> Token:
    """Read a token. Raises ConfigError that says what is wrong with it and shows none of it."""
    document = _decode(text)
    try:
        return Token.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"the network token is damaged: {path}: {first['msg'].lower()}. Copy it again as a whole, "
            "or make a new one with: kairos generate-token"
        ) from None


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
    """Write a token as one line of base64, keys in EdgeVPN's order."""
    document = token.model_dump(exclude_none=True)
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
