"""`nector-relay diff`, against a relay that runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli import replay as diff


@pytest.fixture
def new(folder: Path) -> Path:
    path = folder / "config/new.yaml"
    path.write_text((folder / "config/relay.yaml").read_text())
    return path


def test_the_yaml_in_force_changes_nothing_and_another_is_told_with_masked_examples(
    run: Callable[..., Any], shop: Any, new: Path
) -> None:
    shop.post({"user_name": "Riya", "user_mobile": shop.new_number(), "amount": "1250"})
    done = run("diff", str(new))
    assert (done.code, done.err) == (0, "")
    assert "this is the YAML that is in force" in done.out
    assert done.out.endswith("nothing changes\n")
    text = new.read_text()
    assert "amount | number" in text
    new.write_text(text.replace("amount | number", "amount"))
    done = run("diff", str(new), "--since", "1h")
    assert done.code == 1
    assert "coins-earned: " in done.out
    assert "sent with other content (variable coins)" in done.out
    assert "was: variable coins: 1,***" in done.out
    assert "now: variable coins: 1***" in done.out
    assert "1250" not in done.out
    (change,) = [one for one in json.loads(run("diff", str(new), "--json").out)["changes"] if one["count"]]
    assert (change["route"], change["change"]) == ("coins-earned", "other_content")


def test_a_yaml_that_cannot_be_used_is_1_and_names_its_own_lines(run: Callable[..., Any], shop: Any, new: Path) -> None:
    del shop
    new.write_text(new.read_text().replace("template:", "temlate:", 1))
    done = run("diff", str(new))
    assert (done.code, done.out) == (1, "")
    assert "config/new.yaml:" in done.err
    assert 'did you mean "template"?' in done.err


def test_a_file_that_is_not_there_is_1_and_named(run: Callable[..., Any]) -> None:
    done = run("diff", "config/nothing.yaml")
    assert done.code == 1
    assert "config/nothing.yaml: cannot be read" in done.err


def test_what_takes_long_says_how_far_it_is_away_from_the_result(
    run: Callable[..., Any], shop: Any, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del shop
    answers: Iterator[dict[str, Any]] = iter([{"next": 5}, {"next": 9}, {"next": None}])
    more = {"events": 1_000, "wiped": 1, "changes": [], "hash": "a", "in_force": "b"}

    class Client:
        def send(self, *_given: Any) -> dict[str, Any]:
            return {**more, **next(answers)}

    monkeypatch.setattr(diff, "open_client", Client)
    monkeypatch.setattr("app.cli.tables.PATIENCE_S", -1)
    done = run("diff", str(new))
    assert done.err == "looked at 1000 events\nlooked at 2000 events\n"
    assert "3000 events since 7d: nothing changes\n3 more events could not be compared" in done.out
