"""Templates as a provider has them now, beside those that templates.yaml was last told of."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields

from app.mapping.problems import Problem
from app.mapping.template import Template, Templates
from app.mapping.template_entries import ParsedTemplates

_CURE = "run `nector-relay templates pull` and look at the diff"
_COMPARED = tuple(field.name for field in fields(Template) if field.name not in {"provider", "id", "name"})


def merge_live(kept: Templates, live: Templates, listed: Collection[str]) -> Templates:
    """Return what is true now: `listed` providers' templates as they listed them, the others' as the file has them."""
    return {**{key: template for key, template in kept.items() if key[0] not in listed}, **live}


def find_drift(kept: ParsedTemplates, live: Templates, listed: Collection[str]) -> Iterator[Problem]:
    """Yield a warning at each template of the file that is no longer as its provider has it."""
    for key, template in kept.templates.items():
        provider, id_ = key
        if provider not in listed:
            continue
        line, column = kept.places[key]
        now = live.get(key)
        if now is None:
            message = f'template "{id_}" is not at provider "{provider}" any more'
            yield Problem("warning", line, column, message, _CURE)
        elif changed := list_changes(template, now):
            message = f'template "{id_}" has changed at provider "{provider}": {", ".join(changed)}'
            yield Problem("warning", line, column, message, _CURE)


def list_changes(before: Template, after: Template) -> list[str]:
    """Return the fields of a template that differ."""
    changed = [name for name in _COMPARED if getattr(before, name) != getattr(after, name)]
    return [name.replace("_", " ") for name in changed]
