"""A delivery's story: all that the ops API knows of it, as steps in the order in which they happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from itertools import accumulate
from typing import Any

from app.delivery.decide import END_REACHED, REINSTATED
from app.delivery.policy import Cause
from app.model.delivery import Reason, State
from app.model.event import TEST_SOURCE
from app.model.value import dataclass
from app.values.instant import format_instant, parse_instant, round_duration

_ENDINGS = {State.SHADOW: "shadow: only recorded, nothing is sent", State.SUPPRESSED: "suppressed, so not sent"}

Told = Mapping[str, Any]
"""A JSON object of the ops API: a delivery, or a part of one. Its values are masked already."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step is one thing that happened, in a line. `at`: ms since the epoch. `mark`: `text`'s state or receipt."""

    at: int
    text: str
    mark: str = ""


class Turn(IntEnum):
    """Which of several steps at one instant comes first: causes before what comes of them."""

    ORIGIN = 0
    CAUSE = 1
    HAPPENING = 2
    EFFECT = 3
    WAIT = 4


PlacedStep = tuple[Turn, Step]


def tell_story(delivery: Told) -> list[Step]:
    """Return the steps of a delivery, as `GET /deliveries/{id}` shows it, oldest first. Nothing is told twice."""
    created_at = read_at(delivery["created_at"])
    changes = delivery["hold_changes"]
    placed: list[PlacedStep] = [
        (Turn.ORIGIN, _tell_webhook(delivery)),
        *((Turn.ORIGIN, step) for step in _tell_making(delivery, created_at)),
        *((Turn.EFFECT, step) for step in _tell_siblings(delivery, created_at)),
        *tell_timeline(delivery, list_met_holds(changes)),
        *tell_changes(changes, created_at),
    ]
    return [step for _, step in sorted(placed, key=lambda each: (each[1].at, each[0]))]


def _tell_webhook(delivery: Told) -> Step:
    event = delivery["event"]
    at, topic, id_ = read_at(event["received_at"]), event["topic"], event["id"]
    if event["source"] == TEST_SOURCE:
        return Step(at, f"send-test made event {id_} of an example of {topic}")
    named = f", its delivery {event['delivery_id']}" if event["delivery_id"] else ""
    return Step(at, f"webhook: {event['source']} sent {topic}{named}; event {id_}")


def _tell_making(delivery: Told, at: int) -> Iterator[Step]:
    """Tell how the delivery was made of the event: by which route, which message, and where that already ended."""
    first = delivery["timeline"][0]
    if first["value"] == State.PENDING and first["detail"]:
        yield Step(at, first["detail"])  # a replay, and by which plan
    yield Step(at, f"route {delivery['route']} → {delivery['provider']}, {_name_line(delivery['config'])}")
    if (text := _describe_message(delivery)) is not None:
        yield Step(at, text)
    if first["value"] != State.PENDING:
        yield Step(at, append_reason(_ENDINGS.get(first["value"], first["value"]), first), first["value"])


def _name_line(config: Told) -> str:
    """Return `config/relay.yaml:41 (config 1a2b3c4d5e6f)`, and say so where that version is not today's."""
    place = config["name"] if config["line"] is None else f"{config['name']}:{config['line']}"
    if config["in_force"]:
        return f"{place} (config {config['hash']})"
    return f"{place} as it was then (config {config['hash']}, no longer in force)"


def _describe_message(delivery: Told) -> str | None:
    """Return the message as it was frozen, values masked; None where there never was one."""
    message, first = delivery["message"], delivery["timeline"][0]
    if message is None:
        gone = "its values were wiped since, or cannot be read"
        return None if first["value"] == State.DEAD else f"message of template {delivery['template']}; {gone}"
    parts = [f"message to {delivery['recipient']}: template {message['template']}"]
    parts += [f"language {message['language']}"] if message["language"] else []
    parts += [f"{one['name'] or number}: {one['value']}" for number, one in enumerate(message["variables"], 1)]
    parts += [f"{name}: {message[name]}" for name in ("header", "buttons") if message[name]]
    return ", ".join(parts)


def _tell_siblings(delivery: Told, created_at: int) -> Iterator[Step]:
    """Name the event's other deliveries: those made with this one, and what a replay made before or after it."""
    for sibling in delivery["siblings"]:
        at, state = read_at(sibling["created_at"]), sibling["state"]
        what = "the event has also" if at == created_at else "replayed as" if at > created_at else "before it came"
        yield Step(at, f"{what} {sibling['id']}, route {sibling['route']}, by now {state}", state)


SHORTEST_WAIT_MS = 1_000  # what is shorter is how the relay works, and nobody's question
CLOCKS_APART_MS = 5_000  # a provider's time of a receipt is told where it differs so much from ours
_ENDS = (Cause.ENDED, Cause.ENDED_LATE)  # what comes of an attempt's own end, whoever else may have given it up
_LATE = "{was} → {state}: what the attempt came to was known late"
_BY_REASON = "{was} → {state}{why}"
SENTENCES: Mapping[Cause, str] = {
    Cause.ENDED: _BY_REASON,
    Cause.ENDED_LATE: _BY_REASON,
    Cause.LOST: _BY_REASON,
    Cause.RECEIPT: "{was} → {state}: this receipt settles it",
    Cause.RESENT: "due again (on_unknown: resend): nothing had settled it in {after}",
    Cause.RETRIED: "{detail}",
    Cause.DEADLINE: "{was} → {state}: its deadline passed",
    Cause.OPTED_OUT: _BY_REASON,
    Cause.DAMAGED: _BY_REASON,
    Cause.ERASED: _BY_REASON,
    Cause.RESTORED: "{was} → {state}: a backup was put back, so it may have been sent since",
}
"""How a change of state is told, by its cause; how a delivery was made and claimed is told otherwise."""


def tell_timeline(delivery: Told, holds: Sequence[MetHold]) -> Iterator[PlacedStep]:
    """Yield the steps of the timeline after its first row; the rows of an attempt's start and end are one step."""
    rows = delivery["timeline"]
    # A clock that was set back turns no order round.
    instants = list(accumulate((read_at(row["at"]) for row in rows), max))
    attempts = {attempt["number"]: attempt for attempt in delivery["attempt_list"]}
    end: Told | None = None  # of the attempt that is being told
    stood, stood_at = rows[0], instants[0]
    for place, (row, at) in enumerate(zip(rows[1:], instants[1:], strict=True), 1):
        if row["kind"] != "state":
            yield Turn.HAPPENING, _tell_report(delivery, row, at)
            continue
        if stood["value"] == State.PENDING:
            yield from _tell_wait(stood, stood_at, at, holds)
        if row["cause"] == Cause.CLAIMED:
            attempt = attempts.get(row["attempt"])
            end = None if attempt is None else _find_end(attempt, rows[place + 1 :])
            yield Turn.HAPPENING, _tell_attempt(attempt, end, at, holds)
        elif row["cause"] == Cause.ENDED_LATE or row is not end:
            yield Turn.HAPPENING, _tell_change(row, stood["value"], at, at - stood_at)
        stood, stood_at = row, at


def _find_end(attempt: Told, later: Sequence[Told]) -> Told | None:
    """Return the change that an attempt's end came to, of the rows after its start; None: of its end none came.

    Whoever gives an attempt up as lost cannot say how many requests it took; it may then end after all.
    """
    states = [row for row in later if row["kind"] == "state" and row["attempt"] == attempt["number"]]
    if states and (states[0]["cause"] in (Cause.ENDED, Cause.RECEIPT) or attempt["tries"] is None):
        return states[0]
    return next((row for row in states if row["cause"] == Cause.ENDED_LATE), None)


# -- attempts ---------------------------------------------------------------------------------------


def _tell_attempt(attempt: Told | None, end: Told | None, at: int, holds: Sequence[MetHold]) -> Step:
    """Tell an attempt with its outcome, and with what its end came to."""
    if attempt is None:
        return Step(at, "an attempt, of which nothing is kept")
    probed = [hold.scope for hold in holds if hold.set_at < at and hold.stood_between(at, at + 1) and not hold.by_hand]
    head = f"attempt {attempt['number']}" + (f", a probe of {' and '.join(probed)}" if probed else "")
    if attempt["outcome"] is None:
        return Step(at, f"{head}: under way", State.SENDING)
    text = append_reason(f"{head}: {attempt['outcome']} {_describe_length(attempt)}", attempt)
    state = None if end is None else end["value"]
    if state in (State.DEAD, State.EXPIRED, State.UNKNOWN):
        return Step(at, f"{text} → {state}", state)
    if state == State.ACCEPTED and attempt["outcome"] != State.ACCEPTED:
        return Step(at, f"{text} → accepted, for a receipt had come", state)
    return Step(at, text, attempt["outcome"])


def _describe_length(attempt: Told) -> str:
    length = round_duration(max(read_at(attempt["ended_at"]) - read_at(attempt["started_at"]), 0))
    tries = attempt["tries"]
    if tries is None:  # whoever made it did not live to tell
        return f"when it was found open {length} later"
    if tries == 0:
        return f"after {length}, without a request"
    return f"in {length}" if tries == 1 else f"in {length} and {tries} tries"


# -- waits ------------------------------------------------------------------------------------------

_WAITS: Mapping[str | None, str] = {
    None: "for its turn: the rate, an outage, a limit, or 6 s between two messages to one person",
    Reason.LIMIT_PERSON: "for a limit: as many went to this person as `limits` allows",
    Reason.RECIPIENT_CAPPED: "for WhatsApp's cap on marketing to one person to pass",
    **dict.fromkeys((Reason.RATE_LIMITED, Reason.UNAVAILABLE), "while its lane paused or backed off"),
}


def _tell_wait(pending: Told, since: int, until: int, holds: Sequence[MetHold]) -> Iterator[PlacedStep]:
    """Tell how long it was pending, and why."""
    if until - since >= SHORTEST_WAIT_MS:
        scopes = [hold.scope for hold in holds if hold.stood_between(since, until)]
        why = f"behind the hold on {' and '.join(dict.fromkeys(scopes))}" if scopes else explain_wait(pending)
        yield Turn.WAIT, Step(since, f"waited {round_duration(until - since)} {why}")


def explain_wait(pending: Told, reason: str | None = None) -> str:
    """Return why a delivery that nothing holds waits: for `reason`, else by the row that made it pending."""
    reason = reason or (pending["reason"] if pending["cause"] in _ENDS else None)
    return _WAITS.get(reason, "backing off")


# -- what no attempt explains -----------------------------------------------------------------------


def _tell_change(row: Told, was: str, at: int, after_ms: int) -> Step:
    """Tell a change of state. `was`: the state before, for so long."""
    late = row["cause"] == Cause.ENDED_LATE and not row["reason"]
    sentence, state = _LATE if late else SENTENCES[row["cause"]], row["value"]
    after, why = round_duration(after_ms), append_reason("", row)
    text = sentence.format(was=was, state=state, after=after, detail=row["detail"], why=why)
    return Step(at, text, state if "{state}" in sentence else "")


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


# -- holds ------------------------------------------------------------------------------------------

_RELEASES = {REINSTATED: "WhatsApp says that it may be sent again", END_REACHED: "it was set until then"}


@dataclass(frozen=True, slots=True)
class MetHold:
    """A hold on a delivery's scope. Instants are ms; `released_at` None: it still stands, or outlived the delivery."""

    scope: str
    reason: str
    set_at: int
    released_at: int | None
    by_hand: bool
    by: str | None = None
    until: str | None = None

    def stood_between(self, since: int, until: int) -> bool:
        """Tell whether it stood at some instant after `since` and before `until`."""
        return self.set_at < until and (self.released_at is None or self.released_at > since)


def list_met_holds(changes: Sequence[Told]) -> list[MetHold]:
    """Return the holds that `hold_changes` tell of, as they were set; one that was renewed has its last reason."""
    holds: dict[str, MetHold] = {}
    ended: list[MetHold] = []
    for change in changes:
        scope, at = change["scope"], read_at(change["at"])
        stood = holds.pop(scope, None)
        if change["change"] == "set":
            since = at if stood is None else stood.set_at
            who = (change["by_hand"], change.get("by"), change.get("until"))
            holds[scope] = MetHold(scope, change["reason"], since, None, *who)
        elif stood is not None:
            ended.append(replace(stood, released_at=at))
    return sorted([*ended, *holds.values()], key=lambda hold: hold.set_at)


def tell_changes(changes: Sequence[Told], created_at: int) -> Iterator[PlacedStep]:
    """Yield a step for each change; a hold that stood already is told when the delivery came.

    What a person lets go is why an attempt starts; what an attempt sets or lets go comes of it.
    """
    standing: set[str] = set()
    for change in changes:
        scope, at, setter = change["scope"], read_at(change["at"]), _name_setter(change)
        if change["change"] == "released":
            standing.discard(scope)
            who = f" ({change['by']})" if change.get("by") else ""
            how = f"by hand{who}" if change["by_hand"] else _RELEASES.get(change["reason"], "its probe was accepted")
            yield Turn.CAUSE if change["by_hand"] else Turn.EFFECT, Step(at, f"hold on {scope} released: {how}")
            continue
        if at < created_at:
            text = f"{scope} was on hold already, set {format_instant(at)}{setter}"
            yield Turn.CAUSE, Step(created_at, text, "hold")
        else:
            text = f"hold on {scope} goes on" if scope in standing else f"hold set on {scope}"
            yield Turn.EFFECT, Step(at, f"{text}{setter}", "hold")
        standing.add(scope)


def _name_setter(change: Told) -> str:
    """Return ` by hand (asha), until …: why`; a person who gave no reason has given the hand as one."""
    setter = " by hand" if change["by_hand"] else ""
    setter += f" ({change['by']})" if change.get("by") else ""
    setter += f", until {change['until']}" if change.get("until") else ""
    return setter if change["reason"] == Reason.BY_HAND else f"{setter}: {change['reason']}"


# -- of the ops API's words -------------------------------------------------------------------------


def read_at(text: str) -> int:
    """Return an instant of the ops API as ms since the epoch."""
    return parse_instant(text, "UTC", end_of_day=False) or 0


def append_reason(text: str, told: Told) -> str:
    """Return `text: reason (detail)`, `text` alone where there is neither."""
    reason, detail = told["reason"] or "", told["detail"] or ""
    shown = f"{reason} ({detail})" if reason and detail else reason or detail
    return f"{text}: {shown}" if shown else text
