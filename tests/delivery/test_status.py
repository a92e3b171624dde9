"""A status tells what needs a person, with what mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.delivery.pace import Pace, Recovery, start_pace
from app.delivery.status import (
    LEAST_FREE,
    ConfigStatus,
    HoldStatus,
    LaneStatus,
    Refused,
    RefusedRequests,
    Status,
    StoreStatus,
    Unhandled,
    list_needs,
    show_lane,
)
from app.values.instant import format_instant

AT = "2026-11-26T09:00:00.000Z"
CONFIG = ConfigStatus(path="relay.yaml", hash="abc", since=AT, mode="live", refused=None)
STORE = StoreStatus(place="relay.db", can_commit=True, size_bytes=1, free_bytes=LEAST_FREE)


def build(**parts: Any) -> Status:
    """Return the status of a relay that needs nobody, but for `parts`."""
    well: dict[str, Any] = {"config": CONFIG, "store": STORE, "last_event": None}
    well |= {name: [] for name in ("refused", "lanes", "holds", "unhandled")}
    return Status(version="1", now=AT, started_at=AT, **{**well, **parts})


def refuse(kind: str, reason: str, *, recent: bool = True) -> Status:
    told = RefusedRequests(kind=kind, reason=reason, count=3, last_at=AT, recent=recent, cure="mend it")
    return build(refused=[told])


def stop(reason: str, *, by_hand: bool = False) -> Status:
    hold = {"scope": "provider:g", "since": AT, "deliveries": 2, "probe_at": None, "by": None, "until": None}
    return build(holds=[HoldStatus(reason=reason, by_hand=by_hand, **hold)])


def leave(state: str, reason: str | None) -> Status:
    return build(
        unhandled=[Unhandled(state=state, reason=reason, route="coins", provider="g", count=4, newest_id="id-1")]
    )


REFUSED = Refused(at=AT, faults=["relay.yaml:4:2: error: no", "relay.yaml:5:2: error: nor this"])
STUCK, FULL = STORE.model_copy(update={"can_commit": False}), STORE.model_copy(update={"free_bytes": 5 * 1024**2})
ONE_FAULT = Refused(at=AT, faults=["relay.yaml:4:2: error: no"])


def keep(refused: Refused) -> ConfigStatus:
    return CONFIG.model_copy(update={"refused": refused})


DOWN = LaneStatus(provider="g", state="down", rate="16/s", down_since=AT, next_probe_at=AT, waiting=8)


@pytest.mark.parametrize(
    ("status", "what", "do"),
    [
        (build(store=STUCK), "cannot commit", "runbook"),
        (build(store=FULL), "5 MiB are free", "make room"),
        (build(config=keep(REFUSED)), "relay.yaml:4:2: error: no (and 1", "`nector-relay check`"),
        (build(config=keep(ONE_FAULT)), "in force: relay.yaml:4:2", "`nector-relay check`"),
        (refuse("webhook", "other"), "webhooks were refused (other): 3", "mend it"),
        (refuse("webhook", "422"), "webhooks were refused (422): 3", "mend it"),
        (refuse("receipt", "missing"), "receipts were refused (missing): 3", "mend it"),
        (build(lanes=[DOWN]), f"g is down since {AT}: 8 waiting", "base_url"),
        (build(lanes=[LaneStatus(provider="g", state="gone", rate="-", waiting=2)]), "2 waiting for g", "providers:"),
        (stop("credentials_refused"), "provider:g is on hold: credentials_refused, 2", "`nector-relay explain` of one"),
        (stop("template_refused"), "template_refused", "`nector-relay release provider:g`"),
        (stop("of_a_newer_relay"), "of_a_newer_relay", "`nector-relay release provider:g`"),
        (leave("dead", "variable_missing"), "4 dead: variable_missing, route coins", "`nector-relay explain id-1`"),
        (leave("unknown", "timed_out"), "4 unknown: timed_out", "`nector-relay retry id-1`"),
        (leave("dead", None), "4 dead: no reason", ""),
    ],
)  # fmt: skip
def test_what_needs_a_person_is_told_with_what_mends_it(status: Status, what: str, do: str) -> None:
    (need,) = list_needs(status)
    assert what in need.what
    assert do in need.do


@pytest.mark.parametrize(
    "status",
    [
        build(),
        build(store=STORE.model_copy(update={"free_bytes": None})),
        build(lanes=[LaneStatus(provider="g", state=state, rate="16/s") for state in ("up", "paused")]),
        refuse("webhook", "other", recent=False),
        refuse("webhook", "busy"),
        refuse("webhook", "method"),
        refuse("receipt", "path"),
        refuse("ops", "missing"),
        stop("stock is being counted", by_hand=True),
        leave("dead", "recipient_unreachable"),
    ],
)
def test_what_ends_by_itself_or_was_meant_needs_nobody(status: Status) -> None:
    assert list(list_needs(status)) == []


NOW = 1_790_000_000_000
UP = start_pace(16.0, NOW)
DEAD = Recovery(failures=9, probe_at=NOW + 5_000, down_since=NOW - 60_000)


@pytest.mark.parametrize(
    ("pace", "state", "paused_until", "next_probe_at"),
    [
        (UP, "up", None, None),
        (replace(UP, paused_until=NOW), "up", None, None),
        (replace(UP, paused_until=NOW + 1), "paused", NOW + 1, None),
        (replace(UP, recovery=DEAD), "down", None, NOW + 5_000),
        (replace(UP, recovery=DEAD, paused_until=NOW + 9_000), "down", NOW + 9_000, NOW + 9_000),
        (replace(UP, recovery=replace(DEAD, probe_at=NOW - 1)), "down", None, NOW),
    ],
)
def test_a_lane_stands_as_its_pace_says(
    pace: Pace, state: str, paused_until: int | None, next_probe_at: int | None
) -> None:
    lane = show_lane("gallabox", pace, "16/s", NOW)
    told = (lane.state, lane.paused_until, lane.next_probe_at)
    assert told == (state, *(instant and format_instant(instant) for instant in (paused_until, next_probe_at)))
