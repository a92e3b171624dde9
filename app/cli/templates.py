"""`nector-relay templates pull`: the approved texts as the providers have them now, and how the file differs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.cli.commands import Answer
from app.cli.sources import read_yaml
from app.cli.tables import count_nouns, show_waiting
from app.errors import ConfigError, RelayError
from app.mapping.problems import Problem, cut_lines, format_problem
from app.mapping.provider import ProviderSettings
from app.mapping.template import Template, Templates, gather_languages
from app.mapping.template_entries import ParsedTemplates, dump_templates
from app.providers import build_provider, open_client
from app.providers.answers import is_success
from app.providers.base import LIST_LIMIT_BYTES, TemplateLister
from app.settings import read_environment, read_settings


def templates(
    action: Annotated[Literal["pull"], typer.Argument(help="pull: write what the providers have.")],
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are not approved (pending, paused, rejected).")
    ] = False,
) -> Answer:
    """Write the approved templates into templates.yaml beside the YAML. Exit 1 if a provider gave no list."""
    del action  # there is one
    read = read_yaml(config)
    if read.parsed.config is None:
        faults = [format_problem(name, problem) for name, problem in read.list_problems()]
        raise ConfigError(f"{read.sources.name} cannot be used:\n" + cut_lines(faults))
    with show_waiting("waiting for the providers' lists of templates"):
        live = fetch_templates(read.parsed.config.providers)
    path = Path(read.sources.templates_name)
    told = [f"provider {name} {fault}" for name, fault in live.faults]
    told += [f"provider {name} lists no templates: keep its texts in {path} by hand" for name in live.cannot]
    if not live.listed:
        print("\n".join(told), file=sys.stderr)
        raise RelayError(f"no provider gave a list; {path} is as it was")
    taken = _take(live.templates, everything=everything)
    _write_file(path, dump_templates(taken, read.sources.templates_text, live.listed))
    pulled = [_compare(name, read.templates.templates, taken, live.templates) for name in live.listed]
    without = [{"provider": name, "why": why} for name, why in live.faults]
    answer = {"file": str(path), "pulled": pulled, "faults": without, "cannot": live.cannot}
    told += [f"{path}: {_sum_up(each)}" for each in pulled]
    return Answer(answer, lambda: print("\n".join(told)), 1 if live.faults else 0)


def _take(live: Templates, *, everything: bool) -> Templates:
    """Return what the file can hold: texts, in each of their languages."""
    versions = (version for template in live.values() for version in template.versions)
    return gather_languages(
        version for version in versions if version.body and (everything or version.status == "approved")
    )


def _write_file(path: Path, text: str) -> None:
    """Replace the file whole: a relay that reads it meanwhile must not see half of it."""
    aside = path.with_name(f".{path.name}.new")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise RelayError(f"{path}: cannot be written ({error.strerror})") from None


def _compare(name: str, before: Templates, taken: Templates, live: Templates) -> dict[str, Any]:
    """Return how many templates a provider has, and which of them are new, changed, gone, or left out."""
    old = {id_: template for (provider, id_), template in before.items() if provider == name}
    new = {id_: template for (provider, id_), template in taken.items() if provider == name}
    kept = {(id_, version.language) for id_, template in new.items() for version in template.versions}
    left = [
        f"{id_}{f' in {version.language}' if id_ in new else ''} ({version.status if version.body else 'no text'})"
        for (provider, id_), template in live.items()
        for version in template.versions
        if provider == name and (id_, version.language) not in kept
    ]
    return {
        "provider": name,
        "templates": len(new),
        "new": sorted(id_ for id_ in new if id_ not in old),
        "changed": sorted(id_ for id_ in new if id_ in old and list_changes(old[id_], new[id_])),
        "gone": sorted(id_ for id_ in old if id_ not in new),
        "left_out": sorted(left),
    }


def _sum_up(pulled: Mapping[str, Any]) -> str:
    words = ("new", "changed", "gone", "left_out")
    told = [f"{word.replace('_', ' ')} {', '.join(pulled[word])}" for word in words if pulled[word]]
    return "; ".join([f"{pulled['provider']}: {count_nouns(pulled['templates'], 'template')}", *told])


@dataclass(frozen=True, slots=True)
class LiveTemplates:
    """The providers answered this: `templates` of those `listed`; `faults`: (provider, why there is no list)."""

    templates: Templates
    listed: tuple[str, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
    cannot: tuple[str, ...] = ()  # providers whose type lists nothing: their templates are kept by hand


def fetch_templates(providers: Mapping[str, ProviderSettings]) -> LiveTemplates:
    """Ask every account that can list its templates."""
    listers = {
        name: lister
        for name, settings in providers.items()
        if isinstance(lister := build_provider(settings), TemplateLister)
    }
    answers = asyncio.run(_fetch_all({name: (providers[name], lister) for name, lister in listers.items()}))
    found = {name: answer for name, answer in answers.items() if not isinstance(answer, str)}
    return LiveTemplates(
        templates=gather_languages(template for templates in found.values() for template in templates),
        listed=tuple(found),
        faults=tuple((name, answer) for name, answer in answers.items() if isinstance(answer, str)),
        cannot=tuple(name for name in providers if name not in listers),
    )


async def _fetch_all(
    listers: Mapping[str, tuple[ProviderSettings, TemplateLister]],
) -> dict[str, list[Template] | str]:
    answers = await asyncio.gather(*(_fetch_one(name, *lister) for name, lister in listers.items()))
    return dict(zip(listers, answers, strict=True))


async def _fetch_one(name: str, settings: ProviderSettings, lister: TemplateLister) -> list[Template] | str:
    """Return the list, or why there is none and what to do."""
    request = lister.list_templates_request()
    if request is None:
        return "needs `account_id:` to list its templates; Gallabox shows it in the dashboard's address"
    client = await open_client(settings, way=read_settings(read_environment()).way)
    try:
        response = await client.fetch(request, LIST_LIMIT_BYTES)
    finally:
        await client.close()
    if response is None:
        return "could not be reached; check `base_url:` and the network"
    if response.status in {401, 403}:
        return f"answered {response.status}; check `api_key:`, `api_secret:` and `account_id:`"
    if not is_success(response.status):
        return f"answered {response.status}"
    templates = lister.read_templates(name, response.body)
    return "answered with something that is no list of templates" if templates is None else list(templates)


# -- templates as a provider has them now, beside those that the file was last told of ---------------

_CURE = "run `nector-relay templates pull` and look at the diff"
_COMPARED = tuple(field.name for field in fields(Template) if field.name not in {"provider", "id", "name"})


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
