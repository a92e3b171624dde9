"""A delivery's story: all that the ops API knows of it, as steps in the order in which they happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from app.delivery.holds import (
    MetHold,
    PlacedStep,
    Step,
    Told,
    Turn,
    append_reason,
    list_met_holds,
    read_at,
    tell_changes,
)
from app.delivery.transitions import Cause
from app.model.delivery import Reason, State
from app.model.event import TEST_SOURCE
from app.values.duration import round_duration
from app.values.instant import format_instant

_ENDINGS = {
    State.SHADOW: "shadow: only recorded, nothing is sent",
    State.SUPPRESSED: "suppressed, so not sent",
}


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
    if message["language"]:
        parts.append(f"language {message['language']}")
    parts += [f"{one['name'] or number}: {one['value']}" for number, one in enumerate(message["variables"], 1)]
    if message["header"]:
        parts.append(f"header: {message['header']}")
    if message["buttons"]:
        parts.append(f"buttons: {message['buttons']}")
    return ", ".join(parts)


def _tell_siblings(delivery: Told, created_at: int) -> Iterator[Step]:
    """Name the event's other deliveries: those made with this one, and what a replay made before or after it."""
    for sibling in delivery["siblings"]:
        at, state = read_at(sibling["created_at"]), sibling["state"]
        what = "the event has also" if at == created_at else "replayed as" if at > created_at else "before it came"
        yield Step(at, f"{what} {sibling['id']}, route {sibling['route']}, by now {state}", state)


SHORTEST_WAIT_MS = 1_000  # what is shorter is how the relay works, and nobody's question
CLOCKS_APART_MS = 5_000  # a provider's time of a receipt is told where it differs so much from ours
_BY_HAND = "retried by hand"  # how the outbox's detail of a retry begins
_ENDS = (Cause.ENDED, Cause.ENDED_LATE)  # what comes of an attempt's own end, whoever else may have given it up
_SENTENCES: Mapping[str, str] = {
    Cause.RECEIPT: "this receipt settles it",
    Cause.ENDED_LATE: "what the attempt came to was known late",
    Cause.DEADLINE: "its deadline passed",
    Cause.RESTORED: "a backup was put back, so it may have been sent since",
}


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
    """Tell whether an attempt ended so. One that was given up as lost may have ended after all."""
    if attempt is None:
        return False
    if row.get("cause") in _ENDS:
        return bool(attempt["number"] == row["attempt"])
    return bool(attempt["ended_at"] == row["at"])


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
    was_tried = any(_ends(attempt, pending) for attempt in delivery["attempt_list"])
    match pending["reason"]:
        case Reason.RECIPIENT_CAPPED if was_tried:
            return "for WhatsApp's cap on marketing to one person to pass"
        case Reason.RATE_LIMITED | Reason.UNAVAILABLE if was_tried:
            return "while its lane paused or backed off"
        case reason if reason is not None and was_tried:
            return "backing off"
        case _:
            return "for its turn: the rate, an outage, or 6 s between two messages to one person"


# -- what no attempt explains -----------------------------------------------------------------------


def _tell_change(row: Told, before: Told, stood: Told, at: int, after_ms: int) -> Step:
    """Tell a change of state. `before`: the row before; `stood`: the row of the state before, so long ago."""
    state, was = row["value"], stood["value"]
    cause = row.get("cause") or _guess_cause(row, before)
    if cause == Cause.RETRIED:
        return Step(at, row["detail"])
    if cause == Cause.RESENT:
        return Step(at, f"due again (on_unknown: resend): nothing had settled it in {round_duration(after_ms)}")
    why = _SENTENCES.get(cause) if cause else None
    if why is None or (cause == Cause.ENDED_LATE and row["reason"]):
        return Step(at, append_reason(f"{was} → {state}", row), state)
    return Step(at, f"{was} → {state}: {why}", state)


def _guess_cause(row: Told, before: Told) -> Cause | None:
    """Return why a state was come into, of a row that a release before causes were kept has written."""
    match row["value"]:
        case State.PENDING:
            return Cause.RETRIED if row["detail"].startswith(_BY_HAND) else Cause.RESENT
        case State.ACCEPTED:
            return Cause.RECEIPT if before["kind"] == "receipt" else Cause.ENDED_LATE
        case State.EXPIRED:
            return Cause.DEADLINE
        case _:
            return Cause.RESTORED if row["reason"] == Reason.RESTORED else None


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


FindCure = Callable[[str | None], str]
"""From a reason to what to do about it, "" where that is not known; ID and SCOPE stand for what they name."""

_LOOK_FIRST = "the provider may have taken it: look at its dashboard; only if it is not there: `nector-relay retry ID`"
_EXPLAIN = "`nector-relay explain ID`"  # whoever reads this has just done so


def advise(delivery: Told, find_cure: FindCure) -> tuple[str, str]:
    """Return how a delivery stands, and what to do."""
    state, next_at = delivery["state"], delivery["next_attempt_at"]
    match state:
        case "held":
            return _advise_held(delivery, find_cure)
        case State.PENDING:
            waits = explain_wait(delivery, _find_last_state(delivery))
            text = (
                f"pending; waits {waits}. Next attempt at {next_at} or later; its deadline is {delivery['deadline_at']}"
            )
            return text, "nothing"
        case State.SENDING:
            return "sending: an attempt is open", "nothing; it ends within a minute or two"
        case State.ACCEPTED:
            named = f" as {delivery['provider_message_id']}" if delivery["provider_message_id"] else ""
            standing = f"accepted by {delivery['provider']}{named}, {delivery['receipt'] or 'no receipt yet'}"
        case State.UNKNOWN if next_at is not None:
            return f"unknown: it may have arrived. Sent again at {next_at}, unless a receipt settles it", "nothing"
        case State.UNKNOWN:
            standing = "unknown: it may have arrived"
        case _:
            standing = state
    reason = delivery["reason"]
    ended = state in (State.DEAD, State.EXPIRED)
    doubtful = ended and any(map(was_perhaps_taken, delivery["attempt_list"]))
    cure = _fit_cure(_LOOK_FIRST if doubtful else find_cure(reason), delivery["id"])
    return f"{standing} ({reason})" if reason else standing, cure or "nothing"


def was_perhaps_taken(attempt: Told) -> bool:
    """Tell whether an attempt's message may have been taken: nobody knows, or a 2xx refused it."""
    outcome, detail = attempt["outcome"], attempt["detail"] or ""
    return outcome == "uncertain" or (outcome == "rejected" and detail.startswith("HTTP 2"))


def _advise_held(delivery: Told, find_cure: FindCure) -> tuple[str, str]:
    standing = [hold for hold in list_met_holds(delivery["hold_changes"]) if hold.released_at is None]
    scopes = " and ".join(f"{hold.scope} ({hold.reason})" for hold in standing)
    text = f"held behind {scopes or 'a hold'}; its deadline is {delivery['deadline_at']}"
    return text, "; ".join(dict.fromkeys(_list_releases(standing, find_cure))) or "`nector-relay holds` says why"


def _list_releases(standing: list[MetHold], find_cure: FindCure) -> Iterator[str]:
    for hold in standing:
        cure = find_cure(Reason.BY_HAND) if hold.by_hand else find_cure(hold.reason)
        yield cure.replace("SCOPE", hold.scope) or f"`nector-relay release {hold.scope}`"


def _find_last_state(delivery: Told) -> Told:
    found: Told = [row for row in delivery["timeline"] if row["kind"] == "state"][-1]
    return found


def _fit_cure(cure: str, delivery_id: str) -> str:
    """Put the delivery's id into a cure, and leave out what whoever reads it has done."""
    cure = cure.removeprefix(f"{_EXPLAIN} names it; ").replace(f"{_EXPLAIN} shows the provider's words; ", "")
    return cure.replace(" ID`", f" {delivery_id}`")
