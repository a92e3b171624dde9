"""`nector-relay echo`, in a folder with the bundled YAML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_what_is_printed_can_be_checked_again(
    run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALLABOX_API_KEY", "sesame-sesame")
    done = run("echo")
    assert (done.code, done.err) == (0, "")
    assert "api_key: ${GALLABOX_API_KEY}  # ***\n" in done.out
    assert "sesame" not in done.out
    (folder / "config/echoed.yaml").write_text(done.out)
    assert run("check", "config/echoed.yaml").code == 0
    assert run("echo", "config/echoed.yaml").out == done.out, "read again it is the same"


def test_a_yaml_that_cannot_be_used_is_1_and_says_why(
    run: Callable[..., Any], edit: Callable[[str, str], Path]
) -> None:
    edit("template:", "temlate:")
    done = run("echo")
    assert (done.code, done.out) == (1, "")
    assert 'did you mean "template"?' in done.err
