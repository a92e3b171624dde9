"""A delivery's story: from the JSON of the ops API to steps, golden."""

from __future__ import annotations

from typing import Any

import pytest

from app.cli.deliveries import advise
from app.delivery.policy import Cause
from app.delivery.story import SENTENCES, read_at, tell_story
from app.outbox.move import name_causes
from app.values.instant import format_instant

NOW = 1_790_000_000_000
ID = "dlv-1"


def at(seconds: float) -> str:
    return format_instant(NOW + int(seconds * 1_000))


def state(
    seconds: float, value: str, reason: str | None = None, detail: str = "", cause: str | None = None
) -> dict[str, Any]:
    row = {"at": at(seconds), "kind": "state", "value": value, "reason": reason, "detail": detail}
    return {**row, "cause": cause, "attempt": None}


def report(seconds: float, value: str, kind: str = "receipt", **fields: Any) -> dict[str, Any]:
    return {"at": at(seconds), "kind": kind, "value": value, "reason": None, "detail": "", **fields}


def attempt(number: int, started: float, ended: float | None, outcome: str | None, **fields: Any) -> dict[str, Any]:
    return {
        "number": number,
        "started_at": at(started),
        "ended_at": None if ended is None else at(ended),
        "outcome": outcome,
        "reason": None,
        "detail": "",
        "tries": 1,
        **fields,
    }


def hold(seconds: float, change: str, reason: str = "balance_empty", **fields: Any) -> dict[str, Any]:
    scope = fields.pop("scope", "provider:gallabox")
    return {"scope": scope, "at": at(seconds), "change": change, "reason": reason, "by_hand": False, **fields}


def sibling(seconds: float, id_: str, shown: str, route: str = "coins-earned") -> dict[str, Any]:
    return {"id": id_, "route": route, "provider": "g", "template": "t", "state": shown, "created_at": at(seconds)}


def delivery(*timeline: dict[str, Any], **fields: Any) -> dict[str, Any]:
    event = {"id": "evt-1", "source": "nector", "topic": "coins", "received_at": at(0), "delivery_id": "n-1"}
    message: dict[str, Any] = {
        "template": "coins_earned",
        "language": None,
        "header": None,
        "variables": [],
        "buttons": 0,
    }
    standard = {
        "id": ID,
        "route": "coins-earned",
        "provider": "gallabox",
        "template": "coins_earned",
        "recipient": "+91******0001",
        "state": "accepted",
        "reason": None,
        "receipt": None,
        "created_at": at(0),
        "next_attempt_at": None,
        "deadline_at": at(86_400),
        "provider_message_id": None,
        "event": event | fields.pop("event", {}),
        "message": message,
        "config": {"hash": "1a2b3c4d5e6f", "line": 41, "name": "config/relay.yaml", "in_force": True},
        "attempt_list": [],
        "receipts": [],
        "timeline": name_causes(timeline),
        "hold_changes": [],
        "siblings": [],
    }
    return standard | fields


def test_every_cause_has_its_sentence_but_for_those_of_a_beginning() -> None:
    assert set(SENTENCES) == set(Cause) - {Cause.MADE, Cause.REPLAYED, Cause.CLAIMED}


def tell(told: dict[str, Any], skipped: int = 3) -> list[tuple[float, str]]:
    """Return (seconds since the webhook, text) of the steps; most stories begin with the same three."""
    return [((step.at - NOW) / 1_000, step.text) for step in tell_story(told)][skipped:]


SENT = (state(0, "pending"), state(0.5, "sending"), state(0.8, "accepted"))


def test_a_story_begins_with_the_webhook_the_route_and_the_message() -> None:
    message = {
        "template": "coins_earned",
        "language": "en",
        "header": "image",
        "variables": [{"name": "name", "value": "R***"}, {"name": None, "value": "1***"}],
        "buttons": 1,
    }
    told = delivery(*SENT, attempt_list=[attempt(1, 0.5, 0.8, "accepted")], message=message)
    parts = "language en, name: R***, 2: 1***, header: image, buttons: 1"
    assert tell(told, 0) == [
        (0, "webhook: nector sent coins, its delivery n-1; event evt-1"),
        (0, "route coins-earned → gallabox, config/relay.yaml:41 (config 1a2b3c4d5e6f)"),
        (0, f"message to +91******0001: template coins_earned, {parts}"),
        (0.5, "attempt 1: accepted in 0.3 s"),
    ]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"in_force": False}, "config/relay.yaml:41 as it was then (config 1a2b3c4d5e6f, no longer in force)"),
        ({"line": None}, "config/relay.yaml (config 1a2b3c4d5e6f)"),
        ({"name": "RELAY_CONFIG_YAML"}, "RELAY_CONFIG_YAML:41 (config 1a2b3c4d5e6f)"),
    ],
)
def test_the_line_says_of_which_version_of_the_yaml_it_is(config: dict[str, Any], told: str) -> None:
    given = delivery(*SENT)
    given["config"] |= config
    assert tell(given, 1)[0] == (0, f"route coins-earned → gallabox, {told}")


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"delivery_id": None}, "webhook: nector sent coins; event evt-1"),
        ({"source": "send-test", "delivery_id": None}, "send-test made event evt-1 of an example of coins"),
    ],
)
def test_an_event_says_where_it_came_from(event: dict[str, Any], told: str) -> None:
    assert tell(delivery(*SENT, event=event), 0)[0] == (0, told)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (state(0, "dead", "variable_missing", "`amount` is missing"), "dead: variable_missing (`amount` is missing)"),
        (state(0, "expired", "deadline_passed"), "expired: deadline_passed"),
        (state(0, "suppressed", "duplicate"), "suppressed, so not sent: duplicate"),
        (state(0, "shadow"), "shadow: only recorded, nothing is sent"),
        (state(0, "shadow", "not_live"), "shadow: only recorded, nothing is sent: not_live"),
    ],
)
def test_what_ended_as_it_was_made_says_why(first: dict[str, Any], told: str) -> None:
    assert tell(delivery(first))[-1:] == [(0, told)]


def test_a_message_that_never_was_is_not_told_and_one_that_was_wiped_is() -> None:
    assert tell(delivery(state(0, "dead", "recipient_missing"), message=None), 2) == [(0, "dead: recipient_missing")]
    assert tell(delivery(*SENT, message=None), 2)[0] == (
        0,
        "message of template coins_earned; its values were wiped since, or cannot be read",
    )


ATTEMPTS = [
    (
        "tries are counted, and what follows is said",
        (state(1, "dead", "parameters_refused"),),
        attempt(1, 0.5, 1, "rejected", reason="parameters_refused", detail="HTTP 400", tries=3),
        "attempt 1: rejected in 0.5 s and 3 tries: parameters_refused (HTTP 400) → dead",
    ),
    (
        "no request",
        (state(0.5, "expired", "deadline_passed"),),
        attempt(1, 0.5, 0.5, "retryable", reason="deadline_passed", tries=0),
        "attempt 1: retryable after 0 ms, without a request: deadline_passed → expired",
    ),
    (
        "a process that died",
        (state(3_600, "unknown", "process_died"),),
        attempt(1, 0.5, 3_600, "uncertain", reason="process_died", tries=None),
        "attempt 1: uncertain when it was found open 60 min later: process_died → unknown",
    ),
    ("under way", (), attempt(1, 0.5, None, None, tries=None), "attempt 1: under way"),
    (
        "a receipt that came first",
        (report(0.7, "delivered"), state(10.5, "accepted")),
        attempt(1, 0.5, 10.5, "uncertain", reason="timed_out"),
        "attempt 1: uncertain in 10 s: timed_out → accepted, for a receipt had come",
    ),
]


@pytest.mark.parametrize(("rows", "tried", "told"), [row[1:] for row in ATTEMPTS], ids=[row[0] for row in ATTEMPTS])
def test_an_attempt_is_one_step_with_what_followed(rows: Any, tried: Any, told: str) -> None:
    given = delivery(state(0, "pending"), state(0.5, "sending"), *rows, attempt_list=[tried])
    steps = tell(given)
    assert steps[0] == (0.5, told)
    assert [text for _, text in steps[1:]] == ["receipt: delivered" for row in rows if row["kind"] == "receipt"]


def test_an_attempt_that_is_not_kept_is_told_as_that() -> None:
    assert tell(delivery(state(0, "pending"), state(0.5, "sending"))) == [(0.5, "an attempt, of which nothing is kept")]


def test_an_attempt_that_was_given_up_and_ended_after_all_is_three_steps() -> None:
    rows = (state(0, "pending"), state(0.5, "sending"), state(90, "unknown", "process_died"), state(95, "accepted"))
    assert tell(delivery(*rows, attempt_list=[attempt(1, 0.5, 95, "accepted")])) == [
        (0.5, "attempt 1: accepted in 94 s"),
        (90, "sending → unknown: process_died"),
        (95, "unknown → accepted: what the attempt came to was known late"),
    ]


TURN = "for its turn: the rate, an outage, a limit, or 6 s between two messages to one person"
WAITS = [
    ("server_error", "backing off"),
    ("rate_limited", "while its lane paused or backed off"),
    ("unavailable", "while its lane paused or backed off"),
    ("recipient_capped", "for WhatsApp's cap on marketing to one person to pass"),
]


@pytest.mark.parametrize(("reason", "why"), WAITS)
def test_a_wait_after_an_attempt_says_how_long_and_why(reason: str, why: str) -> None:
    given = delivery(
        *(state(0, "pending"), state(0.5, "sending"), state(1, "pending", reason), state(5, "sending")),
        *(state(6, "accepted"),),
        attempt_list=[attempt(1, 0.5, 1, "retryable", reason=reason), attempt(2, 5, 6, "accepted")],
    )
    assert tell(given) == [
        (0.5, f"attempt 1: retryable in 0.5 s: {reason}"),
        (1, f"waited 4 s {why}"),
        (5, "attempt 2: accepted in 1 s"),
    ]


def test_a_wait_for_its_turn_is_told_and_a_short_one_is_not() -> None:
    rows = state(0, "pending"), state(7, "sending"), state(8, "accepted")
    steps = tell(delivery(*rows, attempt_list=[attempt(1, 7, 8, "accepted")]))
    assert steps[0] == (0, f"waited 7 s {TURN}")
    assert len(tell(delivery(*SENT, attempt_list=[attempt(1, 0.5, 0.8, "accepted")]))) == 1


def test_a_hold_that_an_attempt_meets_its_probe_and_its_release_are_in_the_order_in_which_they_caused_one_another() -> (
    None
):
    given = delivery(
        *(state(0, "pending"), state(1, "sending"), state(1, "pending", "balance_empty")),
        *(state(301, "sending"), state(302, "accepted")),
        attempt_list=[attempt(1, 1, 1, "rejected", reason="balance_empty"), attempt(2, 301, 302, "accepted")],
        hold_changes=[hold(1, "set"), hold(302, "released")],
    )
    assert tell(given)[1:] == [
        (1, "attempt 1: rejected in 0 ms: balance_empty"),
        (1, "hold set on provider:gallabox: balance_empty"),
        (1, "waited 5 min behind the hold on provider:gallabox"),
        (301, "attempt 2, a probe of provider:gallabox: accepted in 1 s"),
        (302, "hold on provider:gallabox released: its probe was accepted"),
    ]


def test_a_persons_hold_is_told_as_theirs_and_its_release_comes_before_the_attempt_it_lets_go() -> None:
    route = {"scope": "route:coins-earned", "by_hand": True}
    given = delivery(
        *(state(0, "pending"), state(9, "sending"), state(9.5, "accepted")),
        attempt_list=[attempt(1, 9, 9.5, "accepted")],
        hold_changes=[
            hold(-60, "set", "by_hand", **route),
            hold(2, "set", "wrong text", **route),
            hold(9, "released", "wrong text", **route),
        ],
    )
    assert tell(given) == [
        (0, f"route:coins-earned was on hold already, set {at(-60)} by hand"),
        (0, "waited 9 s behind the hold on route:coins-earned"),
        (2, "hold on route:coins-earned goes on by hand: wrong text"),
        (9, "hold on route:coins-earned released: by hand"),
        (9, "attempt 1: accepted in 0.5 s"),
    ]


def test_a_release_whose_set_was_forgotten_is_told_alone() -> None:
    rows = state(0, "pending"), state(2, "sending"), state(3, "accepted")
    given = delivery(*rows, attempt_list=[attempt(1, 2, 3, "accepted")], hold_changes=[hold(1, "released")])
    assert tell(given)[1:] == [
        (1, "hold on provider:gallabox released: its probe was accepted"),
        (2, "attempt 1: accepted in 1 s"),
    ]


def test_a_hold_that_whatsapp_lifted_is_told_as_that() -> None:
    rows = state(0, "pending"), state(2, "sending"), state(3, "accepted")
    lifted = {**hold(1, "released"), "reason": "reinstated"}
    given = delivery(*rows, attempt_list=[attempt(1, 2, 3, "accepted")], hold_changes=[lifted])
    assert (1, "hold on provider:gallabox released: WhatsApp says that it may be sent again") in tell(given)


UNKNOWN = (state(0, "pending"), state(0.5, "sending"), state(1, "unknown", "timed_out"))
TIMED_OUT = attempt(1, 0.5, 1, "uncertain", reason="timed_out")
CHANGES = [
    (
        "settled by a receipt",
        (report(60, "delivered"), state(60, "accepted")),
        [(60, "receipt: delivered"), (60, "unknown → accepted: this receipt settles it")],
    ),
    (
        "resent",
        (state(901, "pending", "timed_out", "no answer"), state(901.5, "sending")),
        [
            (901, "due again (on_unknown: resend): nothing had settled it in 15 min"),
            (901.5, "attempt 2: under way"),
        ],
    ),
    (
        "retried by hand",
        (state(901, "pending", None, "retried by hand, though it may have arrived"), state(901.5, "sending")),
        [(901, "retried by hand, though it may have arrived"), (901.5, "attempt 2: under way")],
    ),
    (
        "a backup that was put back",
        (state(901, "unknown", "restored"),),
        [(901, "unknown → unknown: a backup was put back, so it may have been sent since")],
    ),
    (
        "a message that is damaged",
        (state(901, "pending", None, "retried by hand"), state(901.5, "dead", "message_damaged")),
        [(901, "retried by hand"), (901.5, "pending → dead: message_damaged")],
    ),
    (
        "expired behind the pause",
        (state(901, "pending", None, "retried by hand"), state(1_000, "expired", "deadline_passed")),
        [
            (901, "retried by hand"),
            (901, f"waited 99 s {TURN}"),
            (1_000, "pending → expired: its deadline passed"),
        ],
    ),
    (
        "a tap on a button",
        (report(5, "clicked", kind="reply"),),
        [(5, "the customer tapped a button of it")],
    ),
    (
        "a receipt with a reason",
        (report(5, "failed", reason="recipient_capped", detail="131049"),),
        [(5, "receipt: failed: recipient_capped (131049)")],
    ),
]


@pytest.mark.parametrize(("rows", "told"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_no_attempt_explains_is_a_step_of_its_own(rows: Any, told: Any) -> None:
    given = delivery(*UNKNOWN, *rows, attempt_list=[TIMED_OUT, attempt(2, 901.5, None, None, tries=None)])
    assert tell(given) == [(0.5, "attempt 1: uncertain in 0.5 s: timed_out → unknown"), *told]


@pytest.mark.parametrize(("dated", "told"), [(4, ""), (-20, f"; gallabox dates it {at(-20)}")])
def test_a_receipts_own_time_is_told_where_it_is_another(dated: float, told: str) -> None:
    receipts = [
        {"status": "delivered", "at": at(dated), "received_at": at(5)},
        {"status": "read", "at": at(900), "received_at": at(6)},
    ]
    given = delivery(*SENT, report(5, "delivered"), attempt_list=[attempt(1, 0.5, 0.8, "accepted")], receipts=receipts)
    assert tell(given)[1:] == [(5, f"receipt: delivered{told}")]


def test_a_replay_is_told_with_what_came_before_and_after_it() -> None:
    given = delivery(
        *(state(60, "pending", None, "replayed by plan p-1"), state(60.1, "sending"), state(60.2, "accepted")),
        attempt_list=[attempt(1, 60.1, 60.2, "accepted")],
        created_at=at(60),
        siblings=[
            sibling(0, "dlv-0", "dead"),
            sibling(60, "dlv-2", "pending", "coupon-ready"),
            sibling(90, "dlv-3", "shadow"),
        ],
    )
    assert tell(given, 0) == [
        (0, "webhook: nector sent coins, its delivery n-1; event evt-1"),
        (0, "before it came dlv-0, route coins-earned, by now dead"),
        (60, "replayed by plan p-1"),
        (60, "route coins-earned → gallabox, config/relay.yaml:41 (config 1a2b3c4d5e6f)"),
        (60, "message to +91******0001: template coins_earned"),
        (60, "the event has also dlv-2, route coupon-ready, by now pending"),
        (60.1, "attempt 1: accepted in 0.1 s"),
        (90, "replayed as dlv-3, route coins-earned, by now shadow"),
    ]


def test_a_clock_that_was_set_back_turns_no_order_round() -> None:
    rows = state(0, "pending"), state(10, "sending"), state(8, "unknown", "timed_out"), report(9, "read")
    given = delivery(*rows, state(9, "accepted"), attempt_list=[attempt(1, 10, 8, "uncertain", reason="timed_out")])
    assert [text for _, text in tell(given)][1:] == [
        "attempt 1: uncertain in 0 ms: timed_out → unknown",
        "receipt: read",
        "unknown → accepted: this receipt settles it",
    ]


def test_the_mark_of_a_step_is_a_word_in_it() -> None:
    given = delivery(*UNKNOWN, report(60, "read"), state(60, "accepted"), attempt_list=[TIMED_OUT])
    marked = [step for step in tell_story(given) if step.mark]
    assert [step.mark for step in marked] == ["unknown", "read", "accepted"]
    assert all(step.mark in step.text for step in marked)


def test_an_instant_that_cannot_be_read_is_the_beginning_of_time() -> None:
    assert read_at("soon") == 0


# -- the end ----------------------------------------------------------------------------------------


CURES = {
    "timed_out": "look; not there: `nector-relay retry ID`",
    "variable_missing": "`nector-relay explain ID` names it; mend the route",
    "request_refused": "`nector-relay explain ID` shows the provider's words; mend the route",
    "balance_empty": "pay",
    "by_hand": "`nector-relay release SCOPE`",
}


def refused(detail: str | None) -> dict[str, Any]:
    return attempt(1, 1, 2, "rejected", detail=detail)


LOOK = "the provider may have taken it: look at its dashboard; only if it is not there: `nector-relay retry dlv-1`"
LANE = {"state": "up", "rate": "16/s", "now": at(5), "paused_until": None, "down_since": None, "next_probe_at": None}
DOWN = {**LANE, "state": "down", "down_since": at(2), "next_probe_at": at(30)}
PAUSED = {**LANE, "state": "paused", "paused_until": at(7)}
BEHIND = "behind an outage: gallabox is down since"
LANE_CURE = "nothing, it goes by itself; `nector-relay status` shows the lane"
NOW_WAITS: list[tuple[int, str | None, dict[str, Any] | None, str, str]] = [
    (5, None, LANE, "for its turn at 16/s, the rate of gallabox", "nothing"),
    (5, at(5), LANE, "for its turn at 16/s, the rate of gallabox", "nothing"),
    (5, at(6), LANE, f"for the gap of 6 s between two messages to one person, until {at(6)}", "nothing"),
    (9, at(6), LANE, f"{TURN}, until {at(9)}", "nothing"),
    (9, at(6), DOWN, f"{BEHIND} {at(2)}, the next probe is at {at(30)}", LANE_CURE),
    (5, None, {**DOWN, "down_since": None}, f"{BEHIND} an earlier run, the next probe is at {at(30)}", LANE_CURE),
    (5, None, PAUSED, f"for the pause that gallabox asked for, until {at(7)}", "nothing"),
    (5, None, None, "for gallabox, which the YAML in force does not have", "nothing"),
]  # fmt: skip
ENDS = [
    ({"state": "accepted"}, "accepted by gallabox, no receipt yet", "nothing"),
    (
        {"state": "accepted", "receipt": "read", "provider_message_id": "m-1"},
        "accepted by gallabox as m-1, read",
        "nothing",
    ),
    ({"state": "dead", "reason": "variable_missing"}, "dead (variable_missing)", "mend the route"),
    ({"state": "dead", "reason": "request_refused"}, "dead (request_refused)", "mend the route"),
    (
        {"state": "dead", "reason": "request_refused", "attempt_list": [refused("HTTP 200: no")]},
        "dead (request_refused)",
        LOOK,
    ),
    (
        {"state": "expired", "reason": "deadline_passed", "attempt_list": [attempt(1, 1, 2, "uncertain")]},
        "expired (deadline_passed)",
        LOOK,
    ),
    (
        {"state": "dead", "reason": "request_refused", "attempt_list": [refused("HTTP 400: no"), refused(None)]},
        "dead (request_refused)",
        "mend the route",
    ),
    ({"state": "shadow"}, "shadow", "nothing"),
    (
        {"state": "unknown", "reason": "timed_out"},
        "unknown: it may have arrived (timed_out)",
        "look; not there: `nector-relay retry dlv-1`",
    ),
    (
        {"state": "unknown", "reason": "timed_out", "next_attempt_at": at(9)},
        f"unknown: it may have arrived. Sent again at {at(9)}, unless a receipt settles it",
        "nothing",
    ),
    ({"state": "sending"}, "sending: an attempt is open", "nothing; it ends within a minute or two"),
    *(
        (
            {"state": "pending", "next_attempt_at": at(next_at), "lane": lane, "gap_until": gap},
            f"pending; waits {waits}; its deadline is {at(86_400)}",
            cure,
        )
        for next_at, gap, lane, waits, cure in NOW_WAITS
    ),
    (
        {"state": "pending", "reason": "limit_person", "next_attempt_at": at(9), "lane": LANE, "gap_until": None},
        (
            "pending; waits for a limit: as many went to this person as `limits` allows, "
            f"until {at(9)}; its deadline is {at(86_400)}"
        ),
        "nothing",
    ),
    (
        {"state": "held", "hold_changes": [hold(-1, "set"), hold(1, "released"), hold(2, "set")]},
        f"held behind provider:gallabox (balance_empty); its deadline is {at(86_400)}",
        "pay",
    ),
    (
        {
            "state": "held",
            "hold_changes": [hold(1, "set", "why not"), hold(2, "set", "balance_empty", scope="route:a", by_hand=True)],
        },
        f"held behind provider:gallabox (why not) and route:a (balance_empty); its deadline is {at(86_400)}",
        "`nector-relay release provider:gallabox`; `nector-relay release route:a`",
    ),
    ({"state": "held"}, f"held behind a hold; its deadline is {at(86_400)}", "`nector-relay holds` says why"),
]


@pytest.mark.parametrize(("fields", "standing", "cure"), ENDS, ids=lambda value: str(value)[:30])
def test_a_story_ends_with_how_it_stands_and_what_to_do(
    fields: Any, standing: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.deliveries.find_cure", lambda reason: CURES.get(reason or "", ""))
    given = delivery(state(0, "pending"), report(1, "read"), **fields)
    assert advise(given) == (standing, cure)
