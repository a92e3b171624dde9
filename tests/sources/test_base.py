from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import cleandoc

from app.settings import Settings
from tests.outside import ROOT

OF_A_SOURCE = re.compile(r"(?<![\w.])(x-)?nector(?![-_]relay|-secret)")


def find_strings(source: str) -> Iterator[str]:
    """Yield the texts that a module works with and that are a source's; docstrings are for people."""
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            text = node.value
            is_word = text.startswith("nector") or " " not in text  # a sentence may name the header that it is about
            if is_word and OF_A_SOURCE.search(text) and text not in Settings.model_fields:
                yield text


def test_only_its_own_file_knows_the_source_by_name() -> None:
    files = [path for path in (ROOT / "app").rglob("*.py") if not path.stem.startswith("nector")]
    assert len(files) > 100
    assert {str(path): found for path in files if (found := [*find_strings(path.read_text())])} == {}


def test_control_a_name_a_path_and_a_header_are_found() -> None:
    source = """
        'nector'
        name, told = "nector", "an x-nector-topic"
        path = f"/webhooks/nector/{id}"
        run("nector-relay", b"", "x-nector-topic")
    """
    assert [*find_strings(cleandoc(source))] == ["nector", "/webhooks/nector/", "x-nector-topic"]
