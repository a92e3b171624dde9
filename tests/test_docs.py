"""The pages keep to the code: commands, files, links, settings, states, reasons, metrics, log lines, expressions."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from app.cli import COMMANDS, LazyGroup, build_commands
from app.delivery.replay import Verdict
from app.mapping.expression import Failed, Missing
from app.mapping.grammar import ExpressionCompiler
from app.mapping.rules import RouteFields
from app.model.delivery import Reason, State
from app.model.message import ReceiptStatus
from app.observe.metrics import Metrics
from app.outbox.sqlite.file import open_writing
from app.outbox.sqlite.sidecars import ProcessLock
from app.settings import RETENTIONS, Settings, read_settings
from app.sources.base import parse_body
from app.values.instant import parse_duration
from app.values.text import write_scalar, write_value
from tests.deploy.monitoring import read_alerts

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
PAGES = tuple(
    sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "bench").glob("*.md"), *(ROOT / "deploy").glob("*.md")])
)
GUIDE, RUNBOOK, REFERENCE, GLOSSARY = (
    DOCS / f"{name}.md" for name in ("mapping-guide", "runbook", "reference", "glossary")
)


def read_code(text: str) -> Iterator[str]:
    """Yield the lines of shell blocks and the inline code of a page: prose may say what it likes."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from (line.split("  #")[0] for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def read_rows(text: str) -> list[list[str]]:
    """Return the cells of every table's rows; `\\|` is a bar inside a cell."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def read_section(page: Path, title: str) -> str:
    return page.read_text().split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def read_names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def list_first_names(page: Path, title: str) -> list[str]:
    return [name for row in read_rows(read_section(page, title)) for name in read_names(row[0])]


# -- commands, targets, files, links --------------------------------------------------------------


@cache
def build_group() -> LazyGroup:
    group = typer.main.get_command(build_commands([]))
    assert isinstance(group, LazyGroup)
    return group


@cache
def list_tests() -> frozenset[str]:
    texts = (path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    return frozenset(name for text in texts for name in re.findall(r"def (test_\w+)", text))


def find_wrong_commands(text: str) -> list[str]:
    wrong = []
    for code in read_code(text):
        for name, rest in re.findall(r"\bnector-relay ([a-z][a-z-]*)([^#|&;]*)", code):
            if name not in COMMANDS:
                wrong.append(name)
                continue
            command = build_group().get_command(None, name)
            known = {option for parameter in command.params for option in parameter.opts}
            wrong += [f"{name} {option}" for option in re.findall(r"--[a-z-]+", rest) if option not in known]
    return wrong


def find_wrong_targets(text: str) -> list[str]:
    known = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = [target for code in read_code(text) for target in re.findall(r"^make ([a-z-]+)", code)]
    return [target for target in used if target not in known]


def find_wrong_files(text: str) -> list[str]:
    named = [
        code
        for code in read_code(text)
        if re.fullmatch(r"(app|config|docs|deploy|tests|bench)/[\w./-]*|\.env\.example|Dockerfile|uv\.lock", code)
    ]
    return [name for name in named if not (ROOT / name).exists()]


def find_missing_tests(text: str) -> list[str]:
    return [code for code in read_code(text) if re.fullmatch(r"test_\w+", code) and code not in list_tests()]


def find_broken_links(page: Path, text: str) -> list[str]:
    targets = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    return [link for link in targets if not link_resolves(page, link)]


def link_resolves(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or anchor in list_anchors(target))


def list_anchors(page: Path) -> list[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = page.read_text()
    assert find_wrong_commands(text) == []
    assert find_wrong_targets(text) == []
    assert find_wrong_files(text) == []
    assert find_missing_tests(text) == []
    assert find_broken_links(page, text) == []


def test_a_page_that_lies_is_caught() -> None:
    assert find_wrong_commands("`nector-relay fly` and\n```sh\nnector-relay check --quickly\n```\n") == [
        "check --quickly",
        "fly",
    ]
    assert find_wrong_targets("`make coffee`") == ["coffee"]
    assert find_wrong_files("see `app/nothing.py`") == ["app/nothing.py"]
    assert find_missing_tests("`test_nothing_at_all`") == ["test_nothing_at_all"]
    assert find_broken_links(GUIDE, "[a](nowhere.md) [b](glossary.md#nowhere) [c](glossary.md)") == [
        "nowhere.md",
        "glossary.md#nowhere",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_phone_number_is_an_example_number(page: Path) -> None:
    runs = re.findall(r"(?<![\w-])(?:\+?91)?[6-9][0-9]{9}(?![\w-])", page.read_text())
    assert [number for number in runs if not re.fullmatch(r"(\+?91)?98000000[0-9]{2}", number)] == []


def find_strange_pages(path: Path, text: str) -> Iterator[str]:
    """Yield what a file says of pages that are not in the repository: their names, or a bare section's number."""
    for name in re.findall(r"(?<![\w/.:-])(?:\.\./)*[\w-][\w./-]*\.md\b", text):
        if not ((ROOT / name).exists() or (path.parent / name).resolve().exists()):
            yield name
    yield from re.findall(r"\b(?:DESIGN|HOUSE|wire[ -]facts|field[ -]cases|failure[ -]stories)\b", text)
    yield from re.findall(r"(?<!RFC \d{4} )(?<!E\.164 )§ ?[\d.]+", text)


def list_texts() -> Iterator[Path]:
    """Yield every file of ours that people read, but this one, whose samples name what is not there."""
    kinds = {".py", ".md", ".yml", ".yaml", ".toml", ".json", ".sh", ".txt"}
    for top in ("app", "bench", "config", "deploy", "docs", "tests"):
        yield from (
            path
            for path in (ROOT / top).rglob("*")
            if path.is_file() and path.suffix in kinds and not {"node_modules", "__pycache__"} & {*path.parts}
        )
    yield from (
        *ROOT.glob("*.md"),
        *(ROOT / name for name in ("pyproject.toml", "Makefile", "Dockerfile", ".env.example")),
    )


def test_nothing_refers_to_a_page_that_is_not_in_the_repository() -> None:
    texts = [path for path in list_texts() if path != Path(__file__)]
    assert ROOT / "app/main.py" in texts
    found = {str(path.relative_to(ROOT)): [*find_strange_pages(path, path.read_text())] for path in texts}
    assert {name: pages for name, pages in found.items() if pages} == {}


def test_a_section_that_a_text_of_the_code_names_is_on_its_page() -> None:
    named = {
        pair
        for path in (ROOT / "app").rglob("*.py")
        for pair in re.findall(r"([A-Z][a-z]+(?: [a-z]+)*)\"? in (docs/[a-z-]+\.md)", path.read_text())
    }
    assert ("Backup", "docs/runbook.md") in named
    assert [(title, page) for title, page in named if f"\n## {title}\n" not in (ROOT / page).read_text()] == []


def test_control_a_page_that_is_not_in_the_repository_is_found() -> None:
    text = "see DESIGN §3.4, docs/gone.md and reliability.md T6; docs/glossary.md, RFC 9562 §5.7 and E.164 §6.1"
    assert [*find_strange_pages(DOCS / "a.md", text)] == ["docs/gone.md", "reliability.md", "DESIGN", "§3.4"]


def test_the_runbook_is_short_enough_for_the_night() -> None:
    assert len(RUNBOOK.read_text().split()) <= 2_500


def test_only_the_runbook_has_a_table_of_states_or_of_reasons() -> None:
    known = [{state.value for state in State}, {reason.value for reason in Reason}]
    for page in PAGES:
        listed = {name for row in read_rows(page.read_text()) for name in read_names(row[0])}
        assert page == RUNBOOK or all(len(listed & words) < len(words) for words in known), page


def test_every_decision_is_in_the_index() -> None:
    pages = {path.name for path in (DOCS / "decisions").glob("2*.md")}
    assert pages
    assert pages == set(re.findall(r"\((2[^)]+\.md)\)", (DOCS / "decisions/README.md").read_text()))


def test_the_lock_file_names_no_host() -> None:
    assert "://" not in (ROOT / "uv.lock").read_text()


def test_the_changelog_knows_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text()


# -- tables ---------------------------------------------------------------------------------------


def test_the_settings_are_those_of_the_code_and_of_the_example(example_environment: Mapping[str, str]) -> None:
    listed = list_first_names(REFERENCE, "Settings")
    assert len(listed) == len(set(listed))
    assert set(listed) == set(example_environment)
    ours = {f"RELAY_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in listed if name.startswith("RELAY_")} == ours | {"RELAY_URL"}


def test_the_settings_have_the_defaults_that_the_page_says() -> None:
    rows = [row for row in read_rows(read_section(REFERENCE, "Settings")) if len(row) == 3]
    stated = {read_names(row[0])[0]: "".join(read_names(row[1])) for row in rows if read_names(row[0])}
    assert read_settings(stated) == Settings()


@pytest.mark.parametrize(
    ("page", "title", "expected"),
    [
        (RUNBOOK, "What the reasons mean", {reason.value for reason in Reason}),
        (RUNBOOK, "What the states mean", {state.value for state in State} | {"held"}),
        (REFERENCE, "Retry and replay", {verdict.value for verdict in Verdict}),
        (GLOSSARY, "Receipts", {status.value for status in ReceiptStatus}),
    ],
)
def test_a_table_lists_every_one_of(page: Path, title: str, expected: set[str]) -> None:
    assert set(list_first_names(page, title)) == expected


def test_every_table_of_the_database_is_on_the_privacy_page(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    with closing(ProcessLock(path)) as lock, closing(open_writing(path, lock)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert set(list_first_names(DOCS / "privacy.md", "What is kept")) == tables


def test_the_presets_of_retention_are_those_of_the_code() -> None:
    rows = read_rows(read_section(DOCS / "privacy.md", "How long"))[1:]
    stated = {
        "".join(read_names(row[0])): tuple(parse_duration(read_names(cell)[0]) for cell in row[1:3]) for row in rows
    }
    assert stated == RETENTIONS


def test_every_metric_is_listed_with_its_labels() -> None:
    metrics = [each for each in vars(Metrics()).values() if hasattr(each, "_labelnames")]
    expected = {each.describe()[0].name: set(each._labelnames) for each in metrics}
    counters = {each.describe()[0].name for each in metrics if each.describe()[0].type == "counter"}
    rows = [row for row in read_rows(read_section(REFERENCE, "Metrics")) if read_names(row[0])]
    assert {read_names(row[0])[0]: set(read_names(row[1])) for row in rows} == {
        name + "_total" * (name in counters): labels for name, labels in expected.items()
    }


def test_the_upgrade_note_names_every_metric_of_then_and_now() -> None:
    rows = read_rows(read_section(DOCS / "migrating.md", "The metrics' names, from an earlier release"))[1:]
    renamed = {read_names(old)[0]: read_names(new)[0] for old, new in rows}
    listed = set(list_first_names(REFERENCE, "Metrics"))
    assert set(renamed.values()) <= listed
    assert all(new.removeprefix("nector_") in {old, old.replace("nector_", "")} for old, new in renamed.items())
    assert "relay_events_total" in renamed


def test_every_alert_is_listed_and_sends_its_reader_to_a_section_and_a_command_that_exist() -> None:
    assert set(list_first_names(REFERENCE, "Dashboard and alerts")) == set(read_alerts())
    for alert in read_alerts().values():
        page, _, anchor = alert["annotations"]["runbook_url"].removeprefix(f"{REPOSITORY}/blob/main/").partition("#")
        assert anchor in list_anchors(ROOT / page), alert["alert"]
        assert find_wrong_commands(alert["annotations"]["description"]) == []


def test_every_log_line_is_listed() -> None:
    sources = [path.read_text() for path in (ROOT / "app").rglob("*.py")]
    written = {
        name
        for source in sources
        for name in re.findall(r'log\.(?:info|warning|error|critical)\(\s*"([a-z]+\.[a-z_]+)"', source)
    }
    assert "event.received" in written
    assert written == set(list_first_names(REFERENCE, "Logs"))


def test_every_key_of_a_route_is_listed() -> None:
    rows = read_rows(read_section(GUIDE, "Every key of a route"))
    assert {read_names(row[0])[0] for row in rows if read_names(row[0])} == set(RouteFields.model_fields)


# -- the words of the code ------------------------------------------------------------------------


def list_words() -> set[str]:
    return {word for row in read_rows(GLOSSARY.read_text()) for word in row[0].split(", ")}


def find_unexplained(names: Iterable[str], words: set[str]) -> list[str]:
    """Return the names none of whose parts, as one or as many, the glossary has: `PastDelivery`, `recordings`."""
    parts = {name: re.findall("[A-Z]?[a-z]+", name.replace("_", " ")) for name in names}
    return [
        name
        for name, found in parts.items()
        if not any({part.lower(), part.lower().removesuffix("s")} & words for part in found)
    ]


def list_classes(folder: str) -> list[str]:
    texts = [path.read_text() for path in (ROOT / "app" / folder).glob("*.py")]
    return [name for text in texts for name in re.findall(r"^class ([A-Z]\w+)", text, re.MULTILINE)]


def test_the_glossary_has_the_words_of_the_code() -> None:
    files = [
        path.stem
        for folder in ("model", "delivery", "outbox", "relay")
        for path in (ROOT / "app" / folder).glob("*.py")
        if path.stem not in {"__init__", "values"}
    ]
    assert find_unexplained([*files, *list_classes("model"), *list_classes("delivery")], list_words()) == []


def test_control_a_word_that_the_glossary_lacks_is_found() -> None:
    assert find_unexplained(["recordings", "PastDelivery", "Happening"], list_words()) == ["Happening"]


# -- expressions -----------------------------------------------------------------------------------


EXPRESSIONS = [
    tuple(cell.strip("`") for cell in row) for row in read_rows(read_section(GUIDE, "Expressions")) if "`" in row[0]
]


@pytest.mark.parametrize(("expression", "event", "expected"), EXPRESSIONS)
def test_an_expression_comes_to_what_the_page_says(expression: str, event: str, expected: str) -> None:
    compiled = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN").compile(expression)
    payload = parse_body(event.encode())  # as a webhook is read: numbers keep their text
    assert isinstance(payload, dict), json.dumps(event)
    assert show_result(compiled.evaluate(payload)) == expected


def show_result(value: Any) -> str | None:
    if isinstance(value, Missing):
        return "(missing)"
    if isinstance(value, Failed):
        return "(fails)"
    shown = write_value(value)
    return shown if isinstance(shown, str) else write_scalar(value)


def test_every_filter_is_shown() -> None:
    filters = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN").filters
    shown = " ".join(expression for expression, _, _ in EXPRESSIONS)
    assert {name for name in filters if not re.search(rf"\| {name}\b", shown)} == {"d"}  # which is `default`
