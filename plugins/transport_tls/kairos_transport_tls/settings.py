"""What an operator can set under `p2p.transport`."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

from kairos_core import After, Settings, setting

DEFAULT_PORT = 7373
EVERY_ADDRESS = "::"


def _are_addresses(listen: tuple[str, ...]) -> tuple[str, ...]:
    for text in listen:
        try:
            ip_address(text)
        except ValueError:
            raise ValueError(
                f"{text!r} is not an IP address. List addresses of this machine, such as 10.0.0.4 or ::"
            ) from None
    return listen


class TlsSettings(Settings):
    """Where to listen. All listening addresses share one port number, for TCP and UDP alike."""

    port: int | None = setting(
        default=None,
        ge=0,
        le=65535,
        description=f"TCP and UDP port. 0: any free one. Unset: {DEFAULT_PORT}, or any free one where that is taken.",
    )
    listen: Annotated[tuple[str, ...], After(_are_addresses)] = setting(
        default=(EVERY_ADDRESS,),
        min_length=1,
        max_length=16,
        description="Addresses of this machine. `::` is all of them, of IPv4 only if none is listed.",
    )
