"""`nector-relay templates pull`: the approved texts as the providers have them, into the file beside the YAML."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.authoring.drift import list_changes
from app.cli.commands import Answer
from app.cli.mapping.live import fetch_templates
from app.cli.mapping.sources import read_yaml
from app.cli.tables import count_nouns, show_waiting
from app.errors import ConfigError, RelayError
from app.mapping.problems import cut_lines, format_problem
from app.mapping.template import Templates, gather_languages
from app.mapping.template_entries import dump_templates


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
