"""Addresses: the client of a request, the HOST:PORT to listen on, and the PostgreSQL of an outbox.

The client is the peer, or who trusted proxies say it is in X-Forwarded-For.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from app.model.value import dataclass

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_WITH_PORT = re.compile(r"\[([^]]*)](?::[0-9]+)?|([0-9.]+):[0-9]+")
_LAST_PORT = 65_535
_BIND = re.compile(r"(?:\[([0-9A-Fa-f:.]+)]|([^\s:/[\]]+)):([0-9]{1,5})")


class Bind(NamedTuple):
    """A host and a port to listen on."""

    host: str
    port: int


def read_bind(text: str) -> Bind:
    """Return what HOST:PORT names; raises ValueError saying how it is written."""
    found = _BIND.fullmatch(text.strip())
    if found is None or int(found[3]) > _LAST_PORT:
        raise ValueError("write HOST:PORT, such as 127.0.0.1:9090 or [::1]:9090")
    return Bind(found[1] or found[2], int(found[3]))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on a host."""
    address = _read_address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks in CIDR notation; raises ValueError naming the one that is none."""
    try:
        return tuple(ip_network(failed := text) for text in texts)
    except ValueError:
        raise ValueError(f"{failed!r} is no network: write CIDRs such as 10.0.0.0/8 or 192.0.2.7") from None


def find_client(peer: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> Address | None:
    """Return the address of the last hop that is not a trusted proxy; None where a trusted one does not name it.

    `forwarded`: X-Forwarded-For in its order, of which only what a trusted proxy wrote is believed.
    """
    hops = [hop for value in forwarded for hop in value.split(",") if hop.strip()]
    address = _read_address(peer)
    while address is not None and any(address in network for network in trusted):
        address = _read_address(hops.pop()) if hops else None
    return address


def name_customer(address: Address) -> str:
    """Return the address, or of IPv6 the /64, which one customer of a provider has to themselves."""
    return str(address) if isinstance(address, IPv4Address) else str(IPv6Network((address, 64), strict=False))


def _read_address(text: str) -> Address | None:
    """Return an address, which may have a port behind it; None if it is none."""
    text = text.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2] or ""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


SCHEMES = ("postgresql://", "postgres://")
PUBLIC = "public"
_CURE = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with ?schema=NAME where relays share a database"


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A database for the driver, the schema in it that is this relay's, and both as anybody may read them."""

    url: str = field(repr=False)
    schema: str
    place: str


def read_postgres(url: str) -> PostgresAddress:
    """Return the address; raises ValueError with the cure, and without what was written: it may hold a password."""
    try:
        parts = urlsplit(url)
        asked = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        raise ValueError(_CURE) from None
    schema = dict(asked).get("schema", PUBLIC)
    if re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema) is None or schema.startswith("pg_"):
        raise ValueError("?schema= is a name of small letters, digits and underscores, and not one of PostgreSQL's own")
    if not parts.netloc and not asked:
        raise ValueError(_CURE)
    others = urlencode([(name, value) for name, value in asked if name != "schema"])
    bare = f"postgresql://{parts.netloc}{parts.path}"
    place = f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}?schema={schema}"
    return PostgresAddress(f"{bare}?{others}" if others else bare, schema, place)
