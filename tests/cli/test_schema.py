"""`nector-relay schema`: what an editor completes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_it_is_the_file_in_the_repository(run: Callable[..., Any], folder: Path) -> None:
    done = run("schema")
    assert done.code == 0
    assert done.out == (folder / "config/relay.schema.json").read_text()
    assert json.loads(done.out)["$schema"].startswith("https://json-schema.org/")


def test_it_needs_no_yaml(run: Callable[..., Any], folder: Path) -> None:
    (folder / "config/relay.yaml").unlink()
    assert run("schema").code == 0
