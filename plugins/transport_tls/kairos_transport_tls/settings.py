"""What an operator can set under `p2p.transport`."""

from __future__ import annotations

from ipaddress import ip_address

from pydantic import BaseModel, ConfigDict, Field, field_validator

DEFAULT_PORT = 7373
EVERY_ADDRESS = "::"


class TlsSettings(BaseModel):
    """Where to listen. All listening addresses share one port number, for TCP and UDP alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int = Field(
        default=DEFAULT_PORT,
        ge=0,
        le=65535,
        description="TCP and UDP port. 0: any free one. Unset: 7373, or any free one where that is taken.",
    )
    listen: tuple[str, ...] = Field(
        default=(EVERY_ADDRESS,),
        min_length=1,
        max_length=16,
        description="Addresses of this machine. `::` is all of them, of IPv4 only if none is listed.",
    )

    @field_validator("listen")
    @classmethod
    def _are_addresses(cls, listen: tuple[str, ...]) -> tuple[str, ...]:
        for text in listen:
            try:
                ip_address(text)
            except ValueError:
                raise ValueError(
                    f"{text!r} is not an IP address. List addresses of this machine, such as 10.0.0.4 or ::"
                ) from None
        return listen

    @property
    def is_port_chosen(self) -> bool:
        """Say whether the operator asked for this very port."""
        return "port" in self.model_fields_set and self.port != 0
