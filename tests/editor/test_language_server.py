"""The YAML in an editor: the schema as yaml-language-server, which VS Code and others run, makes use of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.authoring.schema import build_schema
from app.mapping.parse import parse_config
from app.providers import settings_types
from app.sources import SOURCE
from tests.editor.language_server import Document, LanguageServer, run_language_server
from tests.needing import find_program, leave_out, need_file

ROOT = Path(__file__).parents[2]
MODULES = Path(__file__).parent / "node_modules"
PROGRAM = MODULES / "yaml-language-server" / "bin" / "yaml-language-server"
OLDEST_NODE = 18
MODELINE = "# yaml-language-server: $schema=./relay.schema.json\n"
PROVIDERS = """version: 1
providers:
  gallabox:
    type: gallabox
    channel_id: ${CHANNEL}
    api_key: ${KEY}
    api_secret: ${SECRET}
"""
ROUTE = """routes:
  coins-earned:
    event: walletreward_create
    template: coins_earned
"""

# The first test waits for Node to load.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: the schema beside the YAML."""
    folder = tmp_path_factory.mktemp("config")
    shutil.copy(ROOT / "config" / "relay.schema.json", folder)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[LanguageServer]:
    node = find_program("node", package="nodejs npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    if int((re.match(r"v(\d+)", version) or ["", "0"])[1]) < OLDEST_NODE:
        leave_out(f"Node {OLDEST_NODE} is needed, not {version.strip() or 'one that does not start'}")
    need_file(MODULES / ".ready", "`make language-server` installs yaml-language-server, with npm")
    with run_language_server([node, str(PROGRAM), "--stdio"], folder) as running:
        yield running


@pytest.fixture
def write(server: LanguageServer, folder: Path, request: pytest.FixtureRequest) -> Callable[[str], Document]:
    """Return the document with this text; each test has a file of its own."""
    name = re.sub(r"\W+", "-", request.node.name)
    return lambda text: server.open(folder / f"{name}.yaml", text)


# -- completion -----------------------------------------------------------------------------------


def test_the_keys_of_a_route_are_offered_with_what_they_mean(write: Callable[[str], Document]) -> None:
    offered = write(MODELINE + PROVIDERS + ROUTE + "    ").complete("coins_earned\n    ")
    route = build_schema(settings_types())["$defs"]["route"]["properties"]
    assert set(route) - {"event", "template"} <= set(offered)  # those two are there already
    for key in ("valid_for", "on_unknown", "variables", "dedup_by", "examples"):
        assert offered[key]["documentation"] == route[key]["description"]


@pytest.mark.parametrize(
    ("text", "behind", "offered"),
    [
        (PROVIDERS + "mode: \n" + ROUTE, "mode: ", {"live", "shadow"}),
        (PROVIDERS + ROUTE + "    mode: ", "mode: ", {"live", "shadow"}),
        (PROVIDERS + ROUTE + "    on_unknown: ", "on_unknown: ", {"hold", "resend"}),
        ("version: 1\nproviders:\n  mine:\n    type: \n" + ROUTE, "type: ", {"bitespeed", "gallabox", "http"}),
        (PROVIDERS + "    treat_500_as: \n" + ROUTE, "treat_500_as: ", {"retry", "unknown"}),
        (PROVIDERS + "routes:\n  coins:\n    event: ", "event: ", {*SOURCE.topics, "wallettransaction_update"}),
        (PROVIDERS + ROUTE + "    valid_for: ", "valid_for: ", {"6h", "24h", "7d"}),
        (PROVIDERS + ROUTE + "    examples:\n      - event: {}\n        dead: ", "dead: ", {"variable_missing"}),
        (PROVIDERS + ROUTE + "    header:\n      ", "header:\n      ", {"image", "video", "document", "text"}),
        (PROVIDERS + ROUTE + "    buttons:\n      - ", "buttons:\n      - ", {"index", "url"}),
    ],
)
def test_what_may_stand_there_is_offered(
    write: Callable[[str], Document], text: str, behind: str, offered: set[str]
) -> None:
    assert offered <= set(write(MODELINE + text).complete(behind))


def test_a_topic_is_offered_with_what_it_tells(write: Callable[[str], Document]) -> None:
    offered = write(MODELINE + PROVIDERS + "routes:\n  coins:\n    event: ").complete("event: ")
    assert offered["walletreward_create"]["documentation"].startswith("Coins were earned.")


def test_a_provider_is_offered_its_own_keys_with_the_names_of_the_environment(
    write: Callable[[str], Document],
) -> None:
    text = MODELINE + "version: 1\nproviders:\n  mine:\n    type: gallabox\n    \n" + ROUTE
    offered = write(text).complete("type: gallabox\n    ")
    assert {"channel_id", "api_key", "account_id", "rate"} <= set(offered)
    assert not {"user_id", "body", "webhook_token"} & set(offered)
    assert plain(offered["api_key"]) == "api_key: ${GALLABOX_API_KEY}"


def test_without_the_first_line_nothing_of_ours_is_offered(write: Callable[[str], Document]) -> None:
    document = write(PROVIDERS + "mode: \n" + ROUTE + "    ")
    assert not {"live", "shadow"} & set(document.complete("mode: "))
    assert not {"valid_for", "on_unknown"} & set(document.complete("coins_earned\n    "))
    assert document.hover("walletreward_create") == ""


def plain(item: Any, indent: str = "") -> str:
    """Return what an editor writes for an offer whose places are left as they are."""
    text = item["textEdit"]["newText"] if "textEdit" in item else item["insertText"]
    filled = re.sub(r"(?<!\\)\$\{\d+:((?:[^}\\]|\\.)*)\}", r"\1", text)
    # https://microsoft.github.io/language-server-protocol/specifications/lsp/3.17/specification/#insertTextMode
    return re.sub(r"\\([$}\\])", r"\1", filled).replace("\n", f"\n{indent}")


def test_a_new_route_is_offered_whole_and_check_finds_nothing_wrong_with_it(
    write: Callable[[str], Document],
) -> None:
    text = PROVIDERS + "defaults: {provider: gallabox, valid_for: 24h}\nroutes:\n  "
    offered = write(MODELINE + text).complete("routes:\n  ")
    written = text + plain(offered["a new route"], "  ") + "\n"
    assert "examples:" in written
    assert find_errors(written) == []


@pytest.mark.parametrize(
    "label", ["an event that is sent", "an event that misses the route", "an event of which nothing can be sent"]
)
def test_an_example_is_offered_whole_and_can_be_read(write: Callable[[str], Document], label: str) -> None:
    text = PROVIDERS + ROUTE + "    provider: gallabox\n    examples:\n      - "
    offered = write(MODELINE + text).complete("examples:\n      - ")
    assert find_errors(text + plain(offered[label], "      ").lstrip() + "\n") == []


def find_errors(text: str) -> list[str]:
    environment = {"CHANNEL": "c", "KEY": "k", "SECRET": "s"}
    parsed = parse_config(text, environment=environment, provider_types=settings_types(), templates={})
    return [problem.message for problem in parsed.problems if problem.severity == "error"]


# -- hover ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behind", "definition", "key"),
    [
        ("on_unknown", "route", "on_unknown"),
        ("valid_for", "route", "valid_for"),
        ("api_key", "gallabox", "api_key"),
        ("user_id", "bitespeed", "user_id"),
        ("any_2xx", "accepted", "any_2xx"),
        ("hits", "example", "hits"),
    ],
)
def test_what_a_key_means_shows_over_it(
    write: Callable[[str], Document], behind: str, definition: str, key: str
) -> None:
    text = """  b:
    type: bitespeed
    base_url: https://b.example
    channel_id: ${B}
    user_id: ${C}
    accepted: {any_2xx: true}
"""
    route = "    on_unknown: resend\n    valid_for: 6h\n    examples:\n      - event: {}\n        hits: false\n"
    shown = write(MODELINE + PROVIDERS + text + ROUTE + route).hover(behind)
    schema = build_schema(settings_types())
    described = schema["$defs"][definition]["properties"][key]["description"]
    heading, told = unmark(shown).split("\n\n", 1)  # the editor heads each key with the schema's title
    assert set(heading.removeprefix("#### ").split(" || ")) == {schema["title"]}
    assert told.startswith(described)


def unmark(markdown: str) -> str:
    return re.sub(r"\\([\\`*_{}\[\]()#+\-.!<>|~&])", r"\1", markdown).replace("&nbsp;", " ")


def test_what_a_word_means_shows_with_its_key(write: Callable[[str], Document]) -> None:
    shown = unmark(write(MODELINE + PROVIDERS + ROUTE + "    on_unknown: resend\n").hover("on_unknown"))
    assert "`resend`: Send it once more by itself: perhaps twice." in shown


# -- faults ---------------------------------------------------------------------------------------


def test_the_bundled_file_has_no_red_line(server: LanguageServer, folder: Path) -> None:
    text = (ROOT / "config" / "relay.yaml").read_text(encoding="utf-8")
    assert text.startswith(MODELINE)
    assert server.open(folder / "relay.yaml", text).list_faults() == []


@pytest.mark.parametrize(
    ("text", "at", "told"),
    [
        (PROVIDERS + ROUTE + "    vald_for: 6h\n", "vald_for", "Property vald_for is not allowed."),
        (PROVIDERS + ROUTE + "    on_unknown: wait\n", "wait", '"hold", "resend"'),
        (PROVIDERS + "mode: shadows\n" + ROUTE, "shadows", '"live", "shadow"'),
        (PROVIDERS + ROUTE.replace("    template: coins_earned\n", ""), "coins-earned", 'Missing property "template".'),
        (PROVIDERS + ROUTE + "    valid_for: 24 hours\n", "24 hours", "Must be a duration such as 90s, 15m, 6h or 7d."),
        (PROVIDERS.replace("    api_key", "    apikey") + ROUTE, "apikey", "Property apikey is not allowed."),
        (PROVIDERS.replace("${KEY}", "sk-4711") + ROUTE, "sk-4711", "A secret comes from the environment: ${NAME}."),
        (PROVIDERS.replace("gallabox\n", "galabox\n") + ROUTE, "galabox", 'Value must be "gallabox".'),
        (PROVIDERS + ROUTE + "    variables: [user_name, 5]\n", "5]", "Incorrect type."),
        (
            PROVIDERS + ROUTE + "    examples:\n      - event: {}\n        sends: {variable: [Riya]}\n",
            "variable:",
            "Property variable is not allowed.",
        ),
    ],
)
def test_a_mistake_is_red_where_it_stands(write: Callable[[str], Document], text: str, at: str, told: str) -> None:
    document = write(MODELINE + text)
    before = document.text[: document.text.index(at)]
    place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
    faults = document.list_faults()
    assert [fault for fault in faults if (fault.line, fault.column) == place and told in fault.text], faults


def test_without_the_first_line_no_mistake_is_seen(write: Callable[[str], Document]) -> None:
    assert write(PROVIDERS + ROUTE + "    vald_for: 6h\n    on_unknown: wait\n").list_faults() == []
