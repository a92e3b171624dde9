"""Whose request it is, by the peer and what trusted proxies say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.values.address import find_client, is_loopback, name_customer, read_bind, read_networks

TRUSTED = read_networks(["10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),  # no proxy of ours: it may say what it likes
        ("10.0.0.1", [], None),
        ("10.0.0.1", [""], None),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1, 192.0.2.7 ,10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1,"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.2, 192.0.2.7"], None),
        ("10.0.0.1", ["unknown"], None),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], None),
        ("10.0.0.1", ["1.2.3"], None),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["[]"], None),
        ("10.0.0.1", ["fe80::1%eth0 and more"], "fe80::1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("2001:db8:ffff::1", ["2001:db8::5"], "2001:db8::5"),
        ("", ["198.51.100.1"], None),
        ("/run/relay.sock", [], None),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_trusted_proxy(
    peer: str, forwarded: list[str], expected: str | None
) -> None:
    found = find_client(peer, forwarded, TRUSTED)
    assert (None if found is None else str(found)) == expected


@given(st.lists(st.text(max_size=40), max_size=4))
def test_whatever_a_stranger_writes_in_front_changes_nothing_and_never_raises(lies: list[str]) -> None:
    assert str(find_client("10.0.0.1", [*lies, "198.51.100.1"], TRUSTED)) == "198.51.100.1"
    find_client("10.0.0.1", lies, TRUSTED)


@pytest.mark.parametrize(
    ("address", "name"),
    [("198.51.100.1", "198.51.100.1"), ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64")],
)
def test_of_ipv6_a_customer_is_the_64(address: str, name: str) -> None:
    found = find_client(address, [], ())
    assert found is not None
    assert name_customer(found) == name


def test_a_network_that_is_none_is_named() -> None:
    assert [str(network) for network in TRUSTED] == ["10.0.0.0/8", "192.0.2.7/32", "2001:db8:ffff::/48"]
    with pytest.raises(ValueError, match=re.escape("'10.0.0.1/8' is no network: write CIDRs")):
        read_networks(["10.0.0.0/8", "10.0.0.1/8"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9090", ("127.0.0.1", 9090)),
        (" [::1]:9090 ", ("::1", 9090)),
        ("ops.internal:0", ("ops.internal", 0)),
        ("192.0.2.7:65535", ("192.0.2.7", 65_535)),
    ],
)
def test_a_host_and_a_port_are_read(text: str, expected: tuple[str, int]) -> None:
    assert read_bind(text) == expected


@pytest.mark.parametrize(
    "text", ["", "9090", ":9090", "127.0.0.1", "::1:9090", "[::1]", "a b:1", "h:65536", "http://h:1"]
)
def test_what_is_no_host_and_port_is_told_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="write HOST:PORT"):
        read_bind(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("Localhost", True),
        ("0.0.0.0", False),  # noqa: S104  # nothing is bound
        ("::", False),
        ("192.0.2.1", False),
        ("relay.example", False),
        ("", False),
    ],
)
def test_only_this_machine_reaches_a_loopback_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
