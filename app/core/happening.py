"""What happened to a delivery after it was made: attempts, the waits between them, receipts, and what people did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from app.core.durations import round_duration
from app.core.instants import format_instant
from app.core.met_holds import MetHold
from app.core.models import Reason, State
from app.core.steps import PlacedStep, Step, Told, Turn, append_reason, read_at

SHORTEST_WAIT_MS = 1_000  # what is shorter is how the relay works, and nobody's question
CLOCKS_APART_MS = 5_000  # a provider's time of a receipt is told where it differs so much from ours
_BY_HAND = "retried by hand"  # how the outbox's detail of a retry begins


def tell_timeline(delivery: Told, holds: Sequence[MetHold]) -> Iterator[PlacedStep]:
    """Yield the timeline's steps but for its first row, which is how the delivery was made.

    The rows of an attempt's start and end are one step.
    """
    rows = delivery["timeline"]
    # A clock that was set back turns no order round.
    instants = list(accumulate((read_at(row["at"]) for row in rows), max))
    attempts = iter(delivery["attempt_list"])
    attempt: Told | None = None
    stood, stood_at = rows[0], instants[0]
    for place, (row, at) in enumerate(zip(rows[1:], instants[1:], strict=True), 1):
        if row["kind"] != "state":
            yield Turn.HAPPENING, _tell_report(delivery, row, at)
            continue
        if stood["value"] == State.PENDING:
            yield from _tell_wait(delivery, stood, stood_at, at, holds)
        if row["value"] == State.SENDING:
            attempt = next(attempts, None)
            yield Turn.HAPPENING, _tell_attempt(attempt, rows[place + 1 :], at, holds)
        elif stood["value"] != State.SENDING or not _ends(attempt, row):
            yield Turn.HAPPENING, _tell_change(row, rows[place - 1], stood, at, at - stood_at)
        stood, stood_at = row, at


def _ends(attempt: Told | None, row: Told) -> bool:
    return attempt is not None and attempt["ended_at"] == row["at"]


# -- attempts ---------------------------------------------------------------------------------------


def _tell_attempt(attempt: Told | None, later: Sequence[Told], at: int, holds: Sequence[MetHold]) -> Step:
    """Tell an attempt with its outcome; `later` are the rows after its start."""
    if attempt is None:
        return Step(at, "an attempt, of which nothing is kept")
    probed = [hold.scope for hold in holds if hold.set_at < at and hold.stood_between(at, at + 1) and not hold.by_hand]
    head = f"attempt {attempt['number']}" + (f", a probe of {' and '.join(probed)}" if probed else "")
    if attempt["outcome"] is None:
        return Step(at, f"{head}: under way", State.SENDING)
    text = append_reason(f"{head}: {attempt['outcome']} {_describe_length(attempt)}", attempt)
    end = next((row["value"] for row in later if row["kind"] == "state" and _ends(attempt, row)), None)
    if end in (State.DEAD, State.EXPIRED, State.UNKNOWN):
        return Step(at, f"{text} → {end}", end)
    if end == State.ACCEPTED and attempt["outcome"] != State.ACCEPTED:
        return Step(at, f"{text} → accepted, for a receipt had come", end)
    return Step(at, text, attempt["outcome"])


def _describe_length(attempt: Told) -> str:
    length = round_duration(max(read_at(attempt["ended_at"]) - read_at(attempt["started_at"]), 0))
    match attempt["tries"]:
        case None:  # whoever made it did not live to tell
            return f"when it was found open {length} later"
        case 0:
            return f"after {length}, without a request"
        case 1:
            return f"in {length}"
        case tries:
            return f"in {length} and {tries} tries"


# -- waits ------------------------------------------------------------------------------------------


def _tell_wait(delivery: Told, pending: Told, since: int, until: int, holds: Sequence[MetHold]) -> Iterator[PlacedStep]:
    """Tell how long it was pending, and why."""
    if until - since >= SHORTEST_WAIT_MS:
        scopes = [hold.scope for hold in holds if hold.stood_between(since, until)]
        why = f"behind the hold on {' and '.join(dict.fromkeys(scopes))}" if scopes else explain_wait(delivery, pending)
        yield Turn.WAIT, Step(since, f"waited {round_duration(until - since)} {why}")


def explain_wait(delivery: Told, pending: Told) -> str:
    """Return why a delivery that nothing holds waits, by the timeline's row that made it pending."""
    ends = {attempt["ended_at"] for attempt in delivery["attempt_list"]}
    match pending["reason"]:
        case Reason.RECIPIENT_CAPPED if pending["at"] in ends:
            return "for WhatsApp's cap on marketing to one person to pass"
        case Reason.RATE_LIMITED | Reason.UNAVAILABLE if pending["at"] in ends:
            return "while its lane paused or backed off"
        case reason if reason is not None and pending["at"] in ends:
            return "backing off"
        case _:
            return "for its turn: the rate, an outage, or 6 s between two messages to one person"


# -- what no attempt explains -----------------------------------------------------------------------


def _tell_change(row: Told, before: Told, stood: Told, at: int, after_ms: int) -> Step:
    """Tell a change of state. `before`: the row before; `stood`: the row of the state before, so long ago."""
    state, was = row["value"], stood["value"]
    if state == State.PENDING:
        if row["detail"].startswith(_BY_HAND):
            return Step(at, row["detail"])
        return Step(at, f"due again (on_unknown: resend): nothing had settled it in {round_duration(after_ms)}")
    if state == State.ACCEPTED:
        why = "this receipt settles it" if before["kind"] == "receipt" else "what the attempt came to was known late"
        return Step(at, f"{was} → accepted: {why}", state)
    if state == State.EXPIRED:
        return Step(at, f"{was} → expired: its deadline passed", state)
    if row["reason"] == Reason.RESTORED:
        return Step(at, f"{was} → unknown: a backup was put back, so it may have been sent since", state)
    return Step(at, append_reason(f"{was} → {state}", row), state)


def _tell_report(delivery: Told, row: Told, at: int) -> Step:
    """Tell a receipt, with the provider's own time if that is another one, or a reply."""
    kind, value = row["kind"], row["value"]
    if kind == "reply":
        return Step(at, "the customer tapped a button of it")
    text = append_reason(f"{kind}: {value}", row)
    own = next((one["at"] for one in delivery["receipts"] if one["status"] == value), None)
    if own is not None and abs(read_at(own) - at) >= CLOCKS_APART_MS:
        text = f"{text}; {delivery['provider']} dates it {format_instant(read_at(own))}"
    return Step(at, text, value)
