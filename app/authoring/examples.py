"""Examples are run through the same routing and rendering as real events, and recorded events become examples.

What an example holds is invented, so what went wrong may be shown with its values.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from app.mapping import Problem
from app.mapping.expression import Expression, Failed, Missing
from app.mapping.filters import find_usual_currency
from app.mapping.rules import Broken, Config, Example, Miss, Route, Store, match_route
from app.mapping.template import Templates, show_message
from app.message.recipient import Recipient, find_recipient, read_person
from app.message.render import Unrendered, compute_deadline, compute_dedup_key, render_message
from app.model.delivery import Reason
from app.model.event import Event
from app.model.message import Message
from app.model.value import dataclass
from app.sources import SOURCE
from app.values.instant import format_instant, is_whole_day
from app.values.text import Path, SentFloat, look_up, read_decimal, read_path, write_path, write_scalar

_MONEY = re.compile(r"\|\s*money\b\s*(\(?)\s*[\"']?([A-Za-z]{3}\b[\"'])?")
_CURRENCIES = ("presentment_currency", "currency", "currency_code")
_EQUALS_NUMBER = re.compile(r"[=!]=\s*-?\d|\d\s*[=!]=")


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """One example's end: `problems` is empty if it is as expected; `message` is None if nothing is sent."""

    route: str
    number: int  # 1-based among the route's examples
    message: Message | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    reading: str = ""  # by which country its number was read


def run_examples(config: Config, templates: Templates, now: int) -> tuple[ExampleResult, ...]:
    """Run every example as an event of `now`; a deadline that has passed is no failure: dates in them grow old."""
    return tuple(
        _run_example(route, number, example, config, templates, now)
        for route in config.routes
        for number, example in enumerate(route.examples, start=1)
    )


def judge_recorded(config: Config, recorded: Mapping[str, Sequence[Mapping[str, Any]]], now: int) -> Iterator[Problem]:
    """Yield a warning for every way in which recorded events, caused by customers, would die on a route."""
    for route in config.routes:
        seen: Counter[str] = Counter()
        events = recorded.get(route.topic, ())
        for payload in events:
            match _render_example(route, _make_event(route, payload, now), config):
                case Unrendered(reason=reason, detail=detail):
                    seen[f"be dead with {reason}: {detail}"] += 1
                case Broken(detail=detail):
                    seen[f"be dead: {detail}"] += 1
                case _:
                    pass
        for fate, count in seen.items():
            message = f'{count} of {len(events)} recorded events would, on route "{route.name}", {fate}'
            yield Problem("warning", route.line, route.column, message)


def _make_event(route: Route, payload: Mapping[str, Any], now: int) -> Event:
    """Return an event that never came: neither its id nor its bytes are looked at."""
    return Event("example", SOURCE.name, route.topic, None, b"", payload, now)


def _run_example(
    route: Route, number: int, example: Example, config: Config, templates: Templates, now: int
) -> ExampleResult:
    event = _make_event(route, example.event, now)
    came_to = _render_example(route, event, config)
    which = f'example {number} of route "{route.name}"'
    texts = [f"{which}: {text}" for text in _compare(route, example, came_to, templates)]
    problems = tuple(Problem("error", example.line, example.column, text) for text in texts)
    if not isinstance(came_to, Message):
        return ExampleResult(route.name, number, None, problems)
    told = [f"{which}: {text}" for text in remark_on_money(route, event, config.store)]
    warnings = tuple(Problem("warning", example.line, example.column, text) for text in told)
    reading, remarks = describe_reading(route, event, config.store), tuple(remark_on_day(route, event, config.store))
    return ExampleResult(route.name, number, came_to, problems, warnings, remarks, reading)


def _render_example(route: Route, event: Event, config: Config) -> Message | Unrendered | Miss | Broken:
    match = match_route(route, event)
    if isinstance(match, Miss | Broken):
        return match
    message = render_message(route, event, config.store)
    others = (compute_deadline(route, event, config.store), compute_dedup_key(route, event))
    return next((each for each in (message, *others) if isinstance(each, Unrendered)), message)


def _compare(
    route: Route, example: Example, came_to: Message | Unrendered | Miss | Broken, templates: Templates
) -> Iterator[str]:
    match came_to:
        case Miss() if example.hits:
            yield f"expected to hit the route, but {came_to.detail}{_show_reads(route, example)}"
        case Broken():
            if example.dead != Reason.EXPRESSION_FAILED:
                yield came_to.detail
        case Unrendered() | Message() if not example.hits:
            yield "expected not to hit the route, but it does"
        case Unrendered() if came_to.reason != example.dead:
            expected = f"dead with {example.dead}" if example.dead else "a message"
            yield f"expected {expected}, got dead with {came_to.reason}: {came_to.detail}"
        case Message() if example.dead:
            yield f"expected dead with {example.dead}, got a message"
        case Message():
            yield from _compare_message(route, example.sends or {}, came_to, templates)
        case _:
            pass


def _show_reads(route: Route, example: Example) -> str:
    """Return what a false condition read, and the commonest cause."""
    reads = {name: look_up(example.event, read_path(name)) for name in sorted(route.when.names if route.when else ())}
    shown = ", ".join(f"{name} = {_show(value)}" for name, value in reads.items() if value is not None)
    is_text = any(isinstance(value, str) and read_decimal(value) is not None for value in reads.values())
    compares = route.when is not None and _EQUALS_NUMBER.search(route.when.source)
    hint = "; a text never equals a number: write `| float`" if is_text and compares else ""
    return (f" ({shown})" if shown else "") + hint


def _compare_message(route: Route, sends: Mapping[str, Any], message: Message, templates: Templates) -> Iterator[str]:
    got = {
        "to": message.recipient,
        "provider": route.provider,
        "template": message.template,
        "language": message.language or "",
        "header": message.header.value if message.header else "",
        "buttons": [button.value for button in message.buttons],
        "limited_time_offer": "" if message.offer_ends_at is None else format_instant(message.offer_ends_at),
    }
    template = templates.get((route.provider, route.template))
    if template is not None:
        got["text"] = show_message(template, message).body
    elif "text" in sends:
        yield f'"text" cannot be compared: template "{route.template}" is not in templates.yaml'
    for key, expected in sends.items():
        if key == "variables":
            yield from _compare_variables(expected, message)
        elif key == "text" and key in got and got[key] != expected:
            yield f'"text" differs, [-expected-] {{+got+}}: {_mark_words(str(expected), str(got[key]))}'
        elif key in got and got[key] != expected:
            yield f'"{key}" should be {_show(expected)}, and is {_show(got[key])}'


def _compare_variables(expected: list[Any] | Mapping[str, Any], message: Message) -> Iterator[str]:
    if isinstance(expected, list):
        wanted, got = [_write(value) for value in expected], [variable.value for variable in message.variables]
        if wanted != got:
            yield f'"variables" should be {_show(wanted)}, and are {_show(got)}'
        return
    by_name = {variable.name or str(place): variable.value for place, variable in enumerate(message.variables, 1)}
    for name, value in expected.items():
        if by_name.get(name) != _write(value):
            is_now = f"is {_show(by_name[name])}" if name in by_name else f"is not among {_show(list(by_name))}"
            yield f'variable "{name}" should be {_show(_write(value))}, and {is_now}'


def _mark_words(expected: str, got: str) -> str:
    """Return one text with what differs marked word by word, as `git diff --word-diff` does."""
    before, after = re.split(r"(\s+)", expected), re.split(r"(\s+)", got)
    parts = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        gone, come = "".join(before[a:b]), "".join(after[c:d])
        marked = (f"[-{gone}-]" if gone else "") + (f"{{+{come}+}}" if come else "")
        parts.append(gone if kind == "equal" else marked)
    return "".join(parts).replace("\n", "\\n")


def _write(value: Any) -> str:
    """In YAML 100 is a number, and what is sent is the text."""
    return write_scalar(value) or ""


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


Recorded = Mapping[str, Sequence[Mapping[str, Any]]]
"""By topic: events with invented values."""


def write_example(route: Route, payload: Mapping[str, Any], config: Config, now: int) -> str:
    """Return an entry for the route's `examples:`, indented to stand there."""
    entry: dict[str, Any] = {"event": payload, **_expect(route, payload, config, now)}
    written = write_yaml([_quote(entry)], flow=None)
    return "".join(f"      {line}\n" for line in written.splitlines())


def write_yaml(data: Any, *, flow: bool | None = False) -> str:
    """Return data as YAML: texts stay on their line, numbers as they were sent. `flow` None: leaves in one line."""
    yaml = YAML()
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.default_flow_style = flow
    yaml.representer.add_representer(
        SentFloat, lambda shown, number: shown.represent_scalar("tag:yaml.org,2002:float", str(number))
    )
    stream = StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def read_recorded(text: str) -> Recorded | None:
    """Return the events of a recorded.json; None where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    lists = list(found.values()) if isinstance(found, dict) else [None]
    is_sound = all(isinstance(events, list) and all(isinstance(event, dict) for event in events) for events in lists)
    return found if is_sound else None


def write_recorded(recorded: Recorded) -> str:
    """Return the text of a recorded.json: sorted, an event a line, so that a change is a readable diff."""
    blocks = []
    for topic, events in sorted(recorded.items()):
        lines = sorted(json.dumps(event, ensure_ascii=False, sort_keys=True) for event in events)
        blocks.append(f"  {json.dumps(topic)}: [\n" + ",\n".join(f"    {line}" for line in lines) + "\n  ]")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _expect(route: Route, payload: Mapping[str, Any], config: Config, now: int) -> dict[str, Any]:
    match _render_example(route, _make_event(route, payload, now), config):
        case Message(recipient=recipient, variables=variables):
            return {"sends": {"to": recipient, "variables": [variable.value for variable in variables]}}
        case Unrendered(reason=reason):
            return {"dead": reason.value}
        case _:
            return {"hits": False}


def _quote(value: Any) -> Any:
    """Quote texts that YAML would read as something else; a number with a + for one."""
    if isinstance(value, Mapping):
        return {name: _quote(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_quote(item) for item in value]
    plain = isinstance(value, str) and value.replace("_", "").isalpha() and value.isascii()
    return value if plain or not isinstance(value, str) else DoubleQuotedScalarString(value)


# -- remarks: where a route's author may have meant another country, currency or end of a day --------


def describe_reading(route: Route, event: Event, store: Store) -> str:
    """Return by which country the recipient's number was read; "" where there is none."""
    found = find_recipient(event.payload, read_person(event), store, route.recipient.number, route.recipient.country)
    if not isinstance(found, Recipient):
        return ""
    return f"as one of {found.country} (`{found.named or 'store.country'}`)" if found.country else "by its own code"


def remark_on_day(route: Route, event: Event, store: Store) -> Iterator[str]:
    """Yield until when a message may be sent whose deadline is a whole day."""
    value = None if route.valid_until is None else route.valid_until.evaluate(event.payload)
    if route.valid_until is None or isinstance(value, Missing | Failed):
        return
    if is_whole_day(value, store.timezone, store.day_ends):
        told = f"until {store.day_ends or '24:00'} in {store.timezone}"
        yield f"valid_until (`{route.valid_until.source}`) is a whole day: {told}"


def remark_on_money(route: Route, event: Event, store: Store) -> Iterator[str]:
    """Yield where `money` writes another currency than the one that stands beside the sum."""
    for number, item in enumerate(route.variables, 1):
        if isinstance(item.source, Expression) and (found := _MONEY.search(item.source.source)) is not None:
            shown = _name_shown(found, event.payload, store)
            named = _find_currency(event.payload, item.source.paths)
            if shown and named and named[1] != shown:
                place, code = named
                told = f"variable {item.name or number} shows {shown}, and the event's `{place}` names {code}"
                yield f"{told}; write money({place})"


def _name_shown(found: re.Match[str], payload: Mapping[str, Any], store: Store) -> str:
    """Return the currency that `money` writes; "" where its author names a property."""
    if found[2]:
        return found[2][:3].upper()
    if found[1]:
        return ""
    named = look_up(payload, ("business_currency_code",))
    if named is not None:
        return str(named).strip().upper()
    return find_usual_currency(store.country)


def _find_currency(payload: Mapping[str, Any], paths: tuple[Path, ...]) -> tuple[str, str] | None:
    """Return the nearest currency's place and code."""
    owners = sorted({path[:depth] for path in paths for depth in range(len(path))}, key=len, reverse=True)
    for owner in owners:
        for name in _CURRENCIES:
            code = look_up(payload, (*owner, name))
            if isinstance(code, str) and re.fullmatch("[A-Za-z]{3}", code.strip()):
                return write_path((*owner, name)), code.strip().upper()
    return None
