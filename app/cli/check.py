"""`nector-relay check`: all that is wrong in the YAML, line by line; `templates`: the texts that the providers have."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.text import Text
from typer import Argument, Option

from app.authoring.examples import Recorded, judge_recorded, run_examples
from app.cli import Answer, ConfigFile
from app.cli.sources import read_again, read_recordings, read_yaml
from app.cli.tables import count_nouns, open_console, show_waiting
from app.clock import read_clock
from app.errors import RelayError
from app.mapping import MOST_SHOWN, Problem, format_problem
from app.mapping.document import read_document
from app.mapping.provider import ProviderSettings
from app.mapping.rules import Config
from app.mapping.template import Template, Templates, gather_languages
from app.mapping.template_entries import ParsedTemplates, dump_templates
from app.model.value import dataclass
from app.providers import build_provider, open_client
from app.providers.answers import is_success
from app.providers.base import LIST_LIMIT_BYTES, TemplateLister
from app.relay.reload import Reading
from app.settings import read_environment, read_settings

_COLOURS = {"error": "red", "warning": "yellow", "": "green"}


def check(
    path: Annotated[Path | None, Argument(help="The YAML file (else RELAY_CONFIG).")] = None,
    live: Annotated[bool, Option("--live", help="Compare with the providers' approved templates.")] = False,
    style: Annotated[
        Literal["text", "github"], Option("--format", help="github: annotations on the lines of a pull request.")
    ] = "text",
    strict: Annotated[bool, Option("--strict", help="Let warnings fail, too.")] = False,
    config: Annotated[Path | None, Option(help="The YAML file, as the other commands take it.")] = None,
) -> Answer:
    """Lint the YAML and run its examples. Exit 0 without an error, else 1."""
    with show_waiting("waiting for the providers' templates" if live else "running the examples"):
        checked = _check(config or path, live=live)
    shown, more = _cut(checked.problems)

    def show() -> None:
        console = open_console()
        for name, problem in shown:
            text = _paint(name, problem) if style == "text" else Text(_annotate(name, problem))
            console.print(text, soft_wrap=True)
        if more:
            told = f"and {more:,} more"
            print(told if style == "text" else f"::warning file={_escape(checked.name)}::{told}")
        for remark in checked.remarks:
            print(f"note: {remark}", file=sys.stderr)
        worst = next((one for one in ("error", "warning") if checked.count(one)), "")
        console.print(Text(_sum_up(checked), _COLOURS[worst]), soft_wrap=True)

    code = 1 if checked.count("error") or (strict and checked.count("warning")) else 0
    return Answer(_as_json(checked, shown, more), show, code)


@dataclass(frozen=True, slots=True)
class Checked:
    """A file came to this: `routes` is 0 where nothing could be run. `listed`: providers that gave their templates.

    `remarks`: what was made of the examples.
    """

    name: str
    problems: tuple[tuple[str, Problem], ...]  # (file, problem)
    routes: int = 0
    passed: int = 0
    failed: int = 0
    listed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def count(self, severity: str) -> int:
        """Return how many problems are so bad."""
        return sum(problem.severity == severity for _, problem in self.problems)


def _check(path: Path | None, *, live: bool) -> Checked:
    environment = read_environment()
    read = read_yaml(path, environment)
    found: list[tuple[str, Problem]] = []
    answered = LiveTemplates({})
    recorded = read_recordings(read.sources)
    if live and read.parsed.config is not None:
        answered = fetch_templates(read.parsed.config.providers)
        drift = find_drift(read.templates, answered.templates, answered.listed)
        found += [(read.sources.templates_name, problem) for problem in drift]
        for name, fault in answered.faults:
            place = read_document(read.sources.text).find_place(("providers", name)).key
            problem = Problem("error", *place, f'provider "{name}" {fault}')
            found.append((read.sources.name, problem))
    if answered.listed or recorded:
        read = read_again(read, environment, answered.templates, answered.listed, recorded)
    config = read.parsed.config
    found += read.list_problems()
    if config is None:
        return Checked(read.sources.name, tuple(_sort(found)), listed=answered.listed)
    return _run(read, config, found, answered.listed, recorded)


def _run(
    read: Reading, config: Config, found: list[tuple[str, Problem]], listed: tuple[str, ...], recorded: Recorded
) -> Checked:
    name, now = read.sources.name, read_clock()
    results = run_examples(config, read.templates.templates, now)
    failed = sum(bool(result.problems) for result in results)
    found += [(name, problem) for result in results for problem in (*result.problems, *result.warnings)]
    readings = dict.fromkeys(result.reading for result in results if result.reading)
    told = [f"each number was read {', or '.join(readings)}"] if readings else []
    remarks = tuple(dict.fromkeys([*told, *(remark for result in results for remark in result.remarks)]))
    found += [(name, problem) for problem in judge_recorded(config, recorded, now)]
    for route in (route for route in config.routes if not route.examples):
        cure = "add one below `examples:`; `nector-relay examples` writes them"
        fault = Problem("warning", route.line, route.column, f'no example tries route "{route.name}"', cure)
        found.append((name, fault))
    return Checked(name, tuple(_sort(found)), len(config.routes), len(results) - failed, failed, listed, remarks)


def _sort(problems: Iterable[tuple[str, Problem]]) -> list[tuple[str, Problem]]:
    """Return them file by file, each from its top."""
    return sorted(dict.fromkeys(problems), key=lambda told: (told[0], told[1].line, told[1].column))


def _cut(problems: Sequence[tuple[str, Problem]]) -> tuple[Sequence[tuple[str, Problem]], int]:
    """Return the first problems, errors before warnings, in their order, and how many more there are."""
    if len(problems) <= MOST_SHOWN:
        return problems, 0
    first = sorted(problems, key=lambda told: told[1].severity != "error")[:MOST_SHOWN]
    return _sort(first), len(problems) - MOST_SHOWN


def _paint(name: str, problem: Problem) -> Text:
    """Return a problem's line, its place bold and how bad it is in colour."""
    line = format_problem(name, problem)
    place = f"{name}:{problem.line}:{problem.column}: "
    text = Text(line)
    text.stylize("bold", 0, len(place))
    text.stylize(_COLOURS[problem.severity], len(place), len(place) + len(problem.severity))
    return text


def _annotate(name: str, problem: Problem) -> str:
    """Return a workflow command, which GitHub shows at the line.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message
    """
    text = problem.message + (f"; {problem.hint}" if problem.hint else "")
    place = f"file={_escape(name)},line={problem.line},col={problem.column}"
    return f"::{problem.severity} {place}::{text.replace('%', '%25')}"


def _escape(value: str) -> str:
    return value.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")


def _sum_up(checked: Checked) -> str:
    told = f"{count_nouns(checked.count('error'), 'error')}, {count_nouns(checked.count('warning'), 'warning')}"
    if checked.listed:
        told += f"; compared with what {' and '.join(checked.listed)} lists now"
    if not checked.routes:
        return f"{checked.name}: {told}; nothing was run"
    examples = f"{checked.passed} of {count_nouns(checked.passed + checked.failed, 'example')} right"
    return f"{checked.name}: {count_nouns(checked.routes, 'route')}, {examples}, {told}"


def _as_json(checked: Checked, shown: Sequence[tuple[str, Problem]], more: int) -> dict[str, object]:
    keys = ("line", "column", "severity", "message", "hint")
    rows = [{"file": name, **{key: getattr(problem, key) for key in keys}} for name, problem in shown]
    examples = {"passed": checked.passed, "failed": checked.failed}
    return {"problems": rows, **({"more": more} if more else {}), "examples": examples}


def templates(
    action: Annotated[Literal["pull"], Argument(help="pull: write what the providers have.")],
    config: ConfigFile = None,
    everything: Annotated[
        bool, Option("--all", help="Also those that are not approved (pending, paused, rejected).")
    ] = False,
) -> Answer:
    """Write the approved templates into templates.yaml beside the YAML. Exit 1 if a provider gave no list."""
    del action  # there is one
    read = read_yaml(config)
    config_used = read.parsed.config or read.use()
    with show_waiting("waiting for the providers' lists of templates"):
        live = fetch_templates(config_used.providers)
    path = Path(read.sources.templates_name)
    told = [f"provider {name} {fault}" for name, fault in live.faults]
    told += [f"provider {name} lists no templates: keep its texts in {path} by hand" for name in live.cannot]
    if not live.listed:
        print("\n".join(told), file=sys.stderr)
        raise RelayError(f"no provider gave a list; {path} is as it was")
    versions = (version for template in live.templates.values() for version in template.versions)
    taken = gather_languages(each for each in versions if each.body and (everything or each.status == "approved"))
    _write_file(path, dump_templates(taken, read.sources.templates_text, live.listed))
    pulled = [_compare(name, read.templates.templates, taken, live.templates) for name in live.listed]
    without = [{"provider": name, "why": why} for name, why in live.faults]
    answer = {"file": str(path), "pulled": pulled, "faults": without, "cannot": live.cannot}
    told += [f"{path}: {_sum_up_pulled(each)}" for each in pulled]
    return Answer(answer, lambda: print("\n".join(told)), 1 if live.faults else 0)


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


def _sum_up_pulled(pulled: Mapping[str, Any]) -> str:
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

    async def fetch_all() -> list[list[Template] | str]:
        return await asyncio.gather(*(_fetch_one(name, providers[name], lister) for name, lister in listers.items()))

    answers = dict(zip(listers, asyncio.run(fetch_all()), strict=True))
    found = {name: answer for name, answer in answers.items() if not isinstance(answer, str)}
    return LiveTemplates(
        templates=gather_languages(template for templates in found.values() for template in templates),
        listed=tuple(found),
        faults=tuple((name, answer) for name, answer in answers.items() if isinstance(answer, str)),
        cannot=tuple(name for name in providers if name not in listers),
    )


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
