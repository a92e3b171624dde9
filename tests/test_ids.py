"""Ids that sort by time (RFC 9562 §5.7)."""

from __future__ import annotations

import os
import re
import uuid

import pytest

from app.clock import new_uuid7

NOW = 1_795_000_000_000


@pytest.mark.parametrize("now", [0, 1, NOW, 2**48 - 1])
def test_an_id_is_a_uuid7_of_its_instant(now: int) -> None:
    made = uuid.UUID(new_uuid7(now))
    assert (made.version, made.variant, made.int >> 80) == (7, uuid.RFC_4122, now)


def test_the_example_of_the_rfc_has_the_same_first_half() -> None:
    """RFC 9562, appendix A.6: 2022-02-22T19:22:22Z."""
    assert new_uuid7(1_645_557_742_000).startswith("017f22e2-79b0-7")


def test_later_ids_sort_later() -> None:
    ids = [new_uuid7(NOW + number) for number in range(1000)]
    assert ids == sorted(ids)


def test_ids_of_one_instant_differ() -> None:
    assert len({new_uuid7(NOW) for _ in range(1000)}) == 1000


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads that other tests have
def test_a_forked_process_makes_ids_of_its_own() -> None:
    new_uuid7(NOW)  # more are drawn by now
    readable, writable = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writable, " ".join(new_uuid7(NOW) for _ in range(20)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(readable, 1000).decode().split()
    os.close(readable)
    os.close(writable)
    assert len(theirs) == 20
    assert set(theirs).isdisjoint(new_uuid7(NOW) for _ in range(1000))


def test_an_id_is_safe_in_a_url() -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}", new_uuid7(NOW))
