"""From a route as it is written to a route that is ready for use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.durations import parse_duration, parse_live_from
from app.core.expressions import Expression
from app.core.fields import ButtonFields, ConstantFields, DefaultsFields, HeaderFields, RouteFields
from app.core.findings import Findings
from app.core.nector import canonical_topic
from app.core.problems import Path
from app.core.routing import ButtonSource, Constant, Example, HeaderSource, Route, Source, VariableSource
from app.core.templates import Templates

Compile = Callable[[str], Expression]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a route is compiled with. `named`: by provider, whether its API wants variables by name."""

    compile: Compile
    defaults: DefaultsFields
    named: Mapping[str, bool]
    templates: Templates


def compile_route(
    name: str, fields: RouteFields, data: Mapping[str, Any], around: Surroundings, findings: Findings
) -> Route | None:
    """Return the route; None where a fault, then reported, keeps it from being one. `data`: the same as read."""
    path: Path = ("routes", name)
    provider = _pick(fields, around.defaults, "provider")
    if not provider:
        if "provider" not in data and not findings.is_silenced(("defaults", "provider")):
            findings.error(path, f'"provider" is missing in route "{name}"', "write it here or in defaults:", at="key")
        return None
    _check_buttons(fields.buttons, path, findings)
    place = findings.document.find_place(path).key
    template = around.templates.get((provider, fields.template))
    live_from = _pick(fields, around.defaults, "live_from")
    return Route(
        name=name,
        topic=canonical_topic(fields.event),
        provider=provider,
        template=fields.template,
        variables=_compile_variables(fields, provider, around),
        when=_compile_optional(fields.when, around),
        recipient=_compile_optional(_pick(fields, around.defaults, "recipient"), around),
        language=_pick(fields, around.defaults, "language") or None,
        header=_compile_header(fields.header, around) if fields.header else None,
        buttons=tuple(ButtonSource(button.index, _compile_source(button.url, around)) for button in fields.buttons),
        valid_for_ms=parse_duration(_pick(fields, around.defaults, "valid_for")),
        valid_until=_compile_optional(fields.valid_until, around),
        dedup_by=_compile_optional(fields.dedup_by, around),
        on_unknown=_pick(fields, around.defaults, "on_unknown"),
        mode=_pick(fields, around.defaults, "mode"),
        live_from=parse_live_from(live_from) if live_from else None,
        only=frozenset(only) if (only := _pick(fields, around.defaults, "only")) is not None else None,
        priority=_pick(fields, around.defaults, "priority"),
        marketing=template is None or template.category == "MARKETING",
        examples=tuple(_read_examples(fields, data, path, findings)),
        line=place.line,
        column=place.column,
    )


def _pick(fields: RouteFields, defaults: DefaultsFields, key: str) -> Any:
    """Return the route's own value, else the default's."""
    return getattr(fields if key in fields.model_fields_set else defaults, key)


def _compile_optional(source: str, around: Surroundings) -> Expression | None:
    return around.compile(source) if source else None


def _compile_source(source: str | ConstantFields, around: Surroundings) -> Source:
    return Constant(source.text) if isinstance(source, ConstantFields) else around.compile(source)


def _compile_variables(fields: RouteFields, provider: str, around: Surroundings) -> tuple[VariableSource, ...]:
    template = around.templates.get((provider, fields.template))
    wanted = template.variables if template else ()
    if isinstance(fields.variables, dict):
        sources = {name: _compile_source(source, around) for name, source in fields.variables.items()}
        # In the template's order, since an API that counts its variables sees nothing but the order.
        ordered = sorted(sources, key=lambda name: wanted.index(name) if name in wanted else len(wanted))
        return tuple(VariableSource(name, sources[name]) for name in ordered)
    compiled = [_compile_source(source, around) for source in fields.variables]
    if not around.named.get(provider, False):
        return tuple(VariableSource(None, source) for source in compiled)
    return tuple(
        VariableSource(name, source) for name, source in zip(_name_places(wanted, len(compiled)), compiled, strict=True)
    )


def _name_places(wanted: Sequence[str], count: int) -> list[str]:
    """Return the template's names in order; "1", "2", … where it is not known or has too few."""
    return [wanted[place] if place < len(wanted) else str(place + 1) for place in range(count)]


def _compile_header(header: HeaderFields, around: Surroundings) -> HeaderSource:
    filename = _compile_source(header.filename, around) if header.filename is not None else None
    if header.image is not None:
        return HeaderSource("image", _compile_source(header.image, around), filename)
    if header.video is not None:
        return HeaderSource("video", _compile_source(header.video, around), filename)
    if header.document is not None:
        return HeaderSource("document", _compile_source(header.document, around), filename)
    return HeaderSource("text", _compile_source(header.text or "", around), filename)


def _check_buttons(buttons: Sequence[ButtonFields], path: Path, findings: Findings) -> None:
    seen: dict[int, int] = {}
    for place, button in enumerate(buttons):
        here: Path = (*path, "buttons", place, "index")
        if button.index in seen:
            first = findings.document.find_place((*path, "buttons", seen[button.index], "index")).value.line
            findings.error(here, f"button {button.index} is given twice", f"the first is on line {first}")
        seen.setdefault(button.index, place)


def _read_examples(fields: RouteFields, data: Mapping[str, Any], path: Path, findings: Findings) -> list[Example]:
    examples = []
    for index, (example, written) in enumerate(zip(fields.examples, data.get("examples") or (), strict=False)):
        mark = findings.document.find_place((*path, "examples", index)).value
        # As read and not as validated: there 199.50 has become 199.5.
        examples.append(
            Example(
                event=written["event"],
                sends=written.get("sends"),
                hits=example.hits,
                dead=example.dead,
                line=mark.line,
                column=mark.column,
            )
        )
    return examples
