from __future__ import annotations

import json
import re

import pytest

from bench.checking import CONFIG, repeat_routes
from bench.events import build_event, build_message, phone_of
from bench.fake_provider import Account
from bench.figures import Spread, compare, percentile
from bench.processes import Memory
from bench.report import Rounds, judge_goals
from bench.scenarios import Delivered, Queued, Throughput
from bench.wire import Inbox


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.99, 4.0), (1.0, 4.0), (0.0, 1.0)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_ratios_are_taken_round_by_round() -> None:
    assert compare([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == Spread(median=2.0, lowest=1.0, highest=3.0)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_requests_are_cut_wherever_the_network_cut_them(size: int) -> None:
    sent = build_event(0) + build_event(1)
    inbox = Inbox()
    packets = [packet for start in range(0, len(sent), size) for packet in inbox.feed(sent[start : start + size])]
    assert [packet.body for packet in packets] == [body_of(build_event(0)), body_of(build_event(1))]
    assert packets[0].first_line == b"POST /webhooks/nector HTTP/1.1"


def test_a_chunked_body_is_refused_rather_than_misread() -> None:
    with pytest.raises(ValueError, match="chunked"):
        Inbox().feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")


def test_every_event_has_a_recipient_of_its_own() -> None:
    phones = {json.loads(body_of(build_event(number)))["user_mobile"] for number in range(100)}
    assert len(phones) == 100
    assert f"91{min(phones)}" == phone_of(0)


def test_a_message_that_comes_twice_is_counted_though_its_id_is_new() -> None:
    account = Account("accept", 0.0)
    for number in (0, 1):
        account.answer_message(body_of(build_message(number)))
    assert account.count()["twice"] == 0
    account.answer_message(body_of(build_message(1)).replace(b'"1"', b'"2"'))
    assert account.count() | {"last_at": 0} == {
        "requests": 3, "accepted": 3, "refused": 0, "unreadable": 0,
        "recipients": 2, "message_ids": 3, "twice": 1, "last_at": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "body", "status"),
    [("accept", b"{}", b"400"), ("accept", b"?", b"400"), ("refuse", body_of(build_message(0)), b"503")],
)
def test_what_is_not_accepted_is_no_arrival(mode: str, body: bytes, status: bytes) -> None:
    account = Account(mode, 0.0)
    assert account.answer_message(body).split(b" ")[1] == status
    assert account.arrivals == {}


@pytest.mark.parametrize(
    ("per_s", "lost", "twice", "met"),
    [
        (320.0, 0, 0, [True, True]),
        (319.0, 0, 0, [False, True]),
        (320.0, 1, 0, [True, False]),
        (320.0, 0, 1, [True, False]),
    ],
)
def test_goals_are_missed_by_a_slower_relay_a_loss_or_a_double(
    per_s: float, lost: int, twice: int, met: list[bool]
) -> None:
    relay = Rounds(throughput=[throughput(per_s, lost, twice)])
    naive = Rounds(throughput=[throughput(100.0, 0, 0)])
    assert [goal.met for goal in judge_goals(relay, naive)] == met


@pytest.mark.parametrize(
    ("accepted", "resident_mb", "met"), [(100_000, 110.0, [True]), (100_000, 110.1, [False]), (99_999, 1.0, [])]
)
def test_memory_counts_only_with_all_queued(accepted: int, resident_mb: float, met: list[bool]) -> None:
    relay = Rounds(queued=Queued(accepted, 1000.0, Memory(resident_mb, resident_mb), 64))
    assert [goal.met for goal in judge_goals(relay, Rounds())] == met


def throughput(per_s: float, lost: int, twice: int) -> Throughput:
    return Throughput(per_s, 1000.0, 1.0, 2.0, Memory(60.0, 60.0), Delivered(lost, twice, 0))


def test_the_bundled_routes_are_repeated_under_names_of_their_own() -> None:
    text = repeat_routes((CONFIG / "relay.yaml").read_text(), 25)
    names = re.findall(r"^  ([a-z-]+-[0-9]+):", text, re.MULTILINE)
    assert (len(names), len(set(names)), names[0], names[12]) == (25, 25, "coins-earned-0", "coupon-ready-12")
    assert text.count("    event: ") == len(set(re.findall(r"event: \w+_[0-9]+_create", text))) == 25
