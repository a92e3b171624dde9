"""The address of a PostgreSQL outbox, as RELAY_DATABASE_URL gives it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

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
