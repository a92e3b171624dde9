"""`templates pull` and `check --live`, against the sandbox's list of templates."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.cli.check import LiveTemplates
from app.mapping.template import Template
from app.mapping.template_entries import parse_templates

ENVIRONMENT = {
    "GALLABOX_CHANNEL_ID": "sandbox-channel",
    "GALLABOX_API_KEY": "sandbox-key",
    "GALLABOX_API_SECRET": "sandbox-secret",
    "GALLABOX_ACCOUNT_ID": "sandbox-account",
    "BITESPEED_BASE_URL": "https://bitespeed.example",
    "BITESPEED_CHANNEL_ID": "c",
    "BITESPEED_USER_ID": "u",
}


@pytest.fixture
def live(shop: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the accounts of the sandbox, which has the bundled templates."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GALLABOX_BASE_URL", shop.sandbox_url)
    return folder


def change(folder: Path, old: str, new: str, name: str = "templates.yaml") -> None:
    path = folder / "config" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.usefixtures("live")
def test_the_bundled_file_is_right_against_what_is_approved(run: Callable[..., Any]) -> None:
    done = run("check", "--live", "--strict")
    right = "config/relay.yaml: 11 routes, 17 of 17 examples right, 0 errors, 0 warnings"
    assert (done.code, done.out) == (0, f"{right}; compared with what gallabox lists now\n")


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        (
            "relay.yaml",
            "template: coins_earned\n",
            "template: coins_earnd\n",
            ['error: provider "gallabox" has no template "coins_earnd"; did you mean "coins_earned"?'],
        ),
        (
            "templates.yaml",
            "you just earned",
            "you have earned",
            ['warning: template "coins_earned" has changed at provider "gallabox": body; run `nector-relay'],
        ),
        (
            "templates.yaml",
            "    coins_earned:\n",
            "    coins_old:\n      body: Bye.\n    coins_earned:\n",
            ['warning: template "coins_old" is not at provider "gallabox" any more; run `nector-relay templates pull`'],
        ),
        (
            "templates.yaml",
            "variables: [name, coins]\n",
            'variables: [name, coins, balance]\n      header: {text: "{{balance}}"}\n',
            ['warning: template "coins_earned" has changed at provider "gallabox": variables, header kind,'],
        ),
    ],
)
def test_what_is_not_as_approved_is_told_at_its_line(
    run: Callable[..., Any], live: Path, name: str, old: str, new: str, told: list[str]
) -> None:
    change(live, old, new, name)
    done = run("check", "--live")
    lines = [line for line in done.out.splitlines() if line.startswith(f"config/{name}:") and ": " in line][: len(told)]
    assert [expected in line for expected, line in zip(told, lines, strict=True)] == [True] * len(told), done.out
    assert done.code == (1 if "error" in told[0] else 0)


@pytest.mark.usefixtures("live")
def test_a_provider_that_gives_no_list_is_an_error_at_its_entry(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALLABOX_API_KEY", "wrong")
    done = run("check", "--live")
    assert done.code == 1
    assert 'config/relay.yaml:24:3: error: provider "gallabox" answered 401; check `api_key:`' in done.out
    monkeypatch.setenv("GALLABOX_API_KEY", "sandbox-key")
    monkeypatch.setenv("GALLABOX_ACCOUNT_ID", "")
    assert "needs `account_id:`" in run("check", "--live").out
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("GALLABOX_ACCOUNT_ID", "a")
    monkeypatch.setenv("GALLABOX_BASE_URL", f"http://127.0.0.1:{port}")
    assert "could not be reached; check `base_url:` and the network" in run("check", "--live").out


def test_a_file_that_cannot_be_read_is_not_compared(run: Callable[..., Any], live: Path) -> None:
    change(live, "version: 1", "version: 2", "relay.yaml")
    done = run("check", "--live")
    assert (done.code, "compared" in done.out) == (1, False)


# -- templates pull -------------------------------------------------------------------------------


def test_pull_writes_what_is_approved_and_a_second_pull_changes_nothing(run: Callable[..., Any], live: Path) -> None:
    path = live / "config/templates.yaml"
    change(live, "you just earned", "you have earned")
    change(live, "    coins_earned:\n", "    coins_old:\n      body: Bye.\n    coins_earned:\n")
    kept = path.read_text()
    done = run("templates", "pull")
    assert done.code == 0
    assert "config/templates.yaml: gallabox: 7 templates; changed coins_earned; gone coins_old\n" in done.out
    assert "provider bitespeed lists no templates: keep its texts in config/templates.yaml by hand\n" in done.out
    text = path.read_text()
    assert text.startswith(kept.partition("version:")[0]), "the comment above it stays"
    assert text[text.index("  bitespeed:") :].strip() == kept[kept.index("  bitespeed:") :].strip(), "so does the other"
    assert "you just earned" in text
    assert run("check", "--live", "--strict").code == 0
    again = run("templates", "pull")
    assert "config/templates.yaml: gallabox: 7 templates\n" in again.out
    assert path.read_text() == text
    assert list((live / "config").glob(".*")) == []


def test_pull_makes_the_file_where_there_is_none(run: Callable[..., Any], live: Path) -> None:
    (live / "config/templates.yaml").unlink()
    done = run("templates", "pull")
    assert done.code == 0
    names = "coins_earned, coins_expiring, coins_unused, referral_rewarded, review_request, review_thanks, tier_changed"
    assert f"gallabox: 7 templates; new {names}\n" in done.out
    assert (
        (live / "config/templates.yaml")
        .read_text()
        .startswith("version: 1\ntemplates:\n  gallabox:\n    coins_earned:")
    )


def test_pull_keeps_every_language_and_part_and_says_what_it_left_out(
    run: Callable[..., Any], live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """version: 1
templates:
  gallabox:
    coupon:
      - header: {location: true}
        limited_time_offer: {text: Only now}
        body: Hurry.
        buttons: [{copy_code: true, text: Copy}, {other: order_details, text: Pay}]
        others: [carousel]
      - {language: hi, body: "Namaste."}
      - {language: ta, status: pending, body: "Vanakkam."}
    late: {status: paused, body: "Later."}
"""
    templates = parse_templates(text).templates
    bare = Template("gallabox", "bare", "", status="approved")
    listed = LiveTemplates({**templates, ("gallabox", "bare"): bare}, ("gallabox",))
    monkeypatch.setattr("app.cli.check.fetch_templates", lambda _: listed)
    done = run("templates", "pull")
    assert done.code == 0
    left = "left out bare (no text), coupon in ta (pending), late (paused)\n"
    assert done.out.endswith(left), done.out
    written = parse_templates((live / "config/templates.yaml").read_text())
    coupon = written.templates["gallabox", "coupon"]
    assert coupon == replace(templates["gallabox", "coupon"], translations=coupon.translations)
    assert [version.language for version in coupon.versions] == ["en", "hi"]


def test_pull_without_any_list_is_1_and_changes_nothing(
    run: Callable[..., Any], live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (live / "config/templates.yaml").read_text()
    monkeypatch.setenv("GALLABOX_API_KEY", "wrong")
    done = run("templates", "pull")
    assert (done.code, done.out) == (1, "")
    assert "provider gallabox answered 401" in done.err
    assert done.err.endswith("nector-relay: no provider gave a list; config/templates.yaml is as it was\n")
    assert (live / "config/templates.yaml").read_text() == before


def test_pull_with_a_faulty_yaml_is_1_and_says_what_is_wrong(run: Callable[..., Any], live: Path) -> None:
    change(live, "version: 1", "version: 2", "relay.yaml")
    done = run("templates", "pull")
    assert done.code == 1
    assert "config/relay.yaml cannot be used:\nconfig/relay.yaml:15:10: error" in done.err
