"""A delivery's story: all that the ops API knows of it, as steps in the order in which they happened."""

from __future__ import annotations

from collections.abc import Iterator

from app.core.happening import tell_timeline
from app.core.met_holds import list_met_holds, tell_changes
from app.core.models import TEST_SOURCE, State
from app.core.steps import PlacedStep, Step, Told, Turn, append_reason, read_at

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
