"""The shape of the code: no import runs in a circle or far, and the way of an event is short and as the README says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.path import trace_event

ROOT = Path(__file__).parent.parent
LONGEST_CHAIN = 12
MOST_FILES, MOST_IN_A_FOLDER = 140, 20
MOST_RUN = 50
MOST_READ, MOST_LINES = 11, 1_900


# -- imports -----------------------------------------------------------------------------------------


def read_imports(folder: Path) -> dict[str, set[str]]:
    """Return each module of a package with those of it that it imports, also inside functions."""
    paths = {_name_module(path.relative_to(folder.parent)): path for path in folder.rglob("*.py")}
    return {name: set(_list_imports(ast.parse(path.read_text()), paths)) - {name} for name, path in paths.items()}


def _name_module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _list_imports(tree: ast.AST, known: Iterable[str]) -> Iterable[str]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                continue
            case ast.Import(names):
                yield from (name.name for name in names if name.name in known)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                whole = {name.name: f"{module}.{name.name}" for name in names}
                yield from {each if each in known else module for each in whole.values()} & set(known)
        yield from _list_imports(node, known)


def find_chain(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the longest chain of imports; raises RecursionError where they run in a circle."""

    @cache
    def follow(name: str) -> tuple[str, ...]:
        below: list[tuple[str, ...]] = [follow(each) for each in imports[name]]
        return (name, *max(below, key=len, default=()))

    chains: list[tuple[str, ...]] = [follow(name) for name in imports]
    longest = max(chains, key=len)
    return list(longest)


def test_no_chain_of_imports_is_long() -> None:
    chain = find_chain(read_imports(ROOT / "app"))
    assert len(chain) <= LONGEST_CHAIN, " > ".join(chain)


def test_the_files_are_few() -> None:
    """A file is one idea; app/sandbox/, which only the commands start, aside."""
    files = [path for path in (ROOT / "app").rglob("*.py") if "sandbox" not in path.parts]
    assert len(files) <= MOST_FILES


def test_no_folder_holds_more_than_twenty_files() -> None:
    folders = {path.parent for path in (ROOT / "app").rglob("*.py")}
    assert [str(folder) for folder in folders if len(list(folder.glob("*.py"))) > MOST_IN_A_FOLDER] == []


def test_control_a_long_chain_and_a_circle_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    for number in range(5):
        (folder / f"m{number}.py").write_text(f"def work():\n    from app.m{number + 1} import work\n")
    (folder / "m5.py").write_text("")
    assert find_chain(read_imports(folder)) == [f"app.m{number}" for number in range(6)]
    (folder / "m5.py").write_text("from app import m0\n")
    with pytest.raises(RecursionError):
        find_chain(read_imports(folder))


# -- the way of an event -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run() -> list[str]:
    return trace_event()


def read_way() -> list[str]:
    """Return the files that the README names to read."""
    (paragraph,) = re.findall(r"^To read the code .*?\n\n", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    way, _, _ = str(paragraph).partition("`app/main.py`")
    return re.findall(r"`(app/[\w/]+\.py)`", way)


def test_what_the_readme_names_to_read_is_there_and_short() -> None:
    way = read_way()
    lines = sum(len((ROOT / path).read_text().splitlines()) for path in way)
    assert 8 <= len(way) <= MOST_READ
    assert lines <= MOST_LINES


def test_what_the_readme_names_to_read_is_called_in_that_order(run: list[str]) -> None:
    words, *way = read_way()
    assert words == "app/model/delivery.py"  # values: they are everywhere
    assert [path for path in run if path in way] == way


def test_one_event_and_its_receipt_run_through_few_files(run: list[str]) -> None:
    assert len(run) <= MOST_RUN, "\n".join(run)
