"""The group about requests that leave the installation for addresses users name."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from sinas.settings.platform import Group

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_WITH_PORT = re.compile(r"(?P<host>[^:\[\]]+|\[[^\[\]]+\]):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """One entry of EGRESS_ALLOW_HOSTS: a name, or a network.

    Attributes:
        name: In lower case and in the form DNS knows; empty for a network.
        network: None for a name.
        port: The only one allowed; None for all.
    """

    name: str
    network: IPv4Network | IPv6Network | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "AllowedHost":
        """One entry: `name`, `name:port`, `address`, `address:port` (`[…]:port`), or a CIDR.

        Raises:
            ValueError: It is none of these; named.
        """
        match = _WITH_PORT.fullmatch(text)
        host, port = (match["host"], int(match["port"])) if match else (text, None)
        if port is not None and not 0 < port < 65_536:
            raise ValueError(f"'{text}' has no port that exists")
        try:
            return cls("", ip_network(host.strip("[]"), strict=False), port)
        except ValueError:
            name = host.lower().rstrip(".")
        # What looks like an address and is none would be a name that nobody has.
        if not _NAME.fullmatch(name) or re.fullmatch(r"[0-9.]+", name):
            raise ValueError(f"'{text}' is no host, host:port or network") from None
        return cls(name, None, port)


class EgressSettings(Group):
    """Requests for users: connectors, callbacks, OpenAPI documents."""

    model_config = SettingsConfigDict(env_prefix="EGRESS_")

    allow_hosts: str = Field(
        "",
        description="Comma list of host, host:port or network (CIDR) that they may go to although "
        "it is private. Everybody who may make a connector reaches it then.",
    )
    max_response_bytes: int = Field(
        10_485_760, ge=1024, description="Largest answer that a connector takes; larger ones fail."
    )

    @field_validator("allow_hosts")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        parse_hosts(value)
        return value

    @property
    def allowed(self) -> tuple[AllowedHost, ...]:
        """`allow_hosts`, parsed."""
        return parse_hosts(self.allow_hosts)


def parse_hosts(text: str) -> tuple[AllowedHost, ...]:
    """The entries of a comma list.

    Raises:
        ValueError: Names the entry that is none.
    """
    return tuple(AllowedHost.parse(part.strip()) for part in text.split(",") if part.strip())
