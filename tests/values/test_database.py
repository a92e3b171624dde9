"""The address of a PostgreSQL outbox: what the driver is given, and what anybody may read."""

from __future__ import annotations

import pytest

from app.values.address import read_postgres

READ = [
    ("postgresql://u:p@db/relay", "postgresql://u:p@db/relay", "public", "postgresql://db/relay?schema=public"),
    ("postgres://u:p@db:5433/relay", "postgresql://u:p@db:5433/relay", "public",
     "postgresql://db:5433/relay?schema=public"),
    ("postgresql://u:p@db/relay?schema=acme", "postgresql://u:p@db/relay", "acme", "postgresql://db/relay?schema=acme"),
    ("postgresql://db/r?sslmode=require&schema=shop_2", "postgresql://db/r?sslmode=require", "shop_2",
     "postgresql://db/r?schema=shop_2"),
    ("postgresql:///relay?host=/run/pg", "postgresql:///relay?host=%2Frun%2Fpg", "public",
     "postgresql:///relay?schema=public"),
    ("postgresql://u:p%40q@a,b/relay", "postgresql://u:p%40q@a,b/relay", "public",
     "postgresql://a,b/relay?schema=public"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "url", "schema", "place"), READ)
def test_an_address_is_read(written: str, url: str, schema: str, place: str) -> None:
    address = read_postgres(written)
    assert (address.url, address.schema, address.place) == (url, schema, place)
    assert url not in repr(address)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("postgresql://", "write postgresql://USER"),
        ("postgresql://[::1/relay", "write postgresql://USER"),
        ("postgresql://u:secret@db/relay?schema=Acme", "small letters"),
        ("postgresql://u:secret@db/relay?schema=", "small letters"),
        ("postgresql://u:secret@db/relay?schema=pg_catalog", "PostgreSQL's own"),
        ('postgresql://u:secret@db/relay?schema=a";drop', "small letters"),
    ],
)
def test_what_is_no_address_is_refused_without_its_password(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        read_postgres(written)
    assert "secret" not in str(raised.value)
