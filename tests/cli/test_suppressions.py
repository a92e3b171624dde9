"""`nector-relay suppressions`, against a relay that runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def lifted(shop: Any) -> Iterator[None]:
    yield
    lift(shop, 0, 10)


def lift(shop: Any, first: int, count: int) -> None:
    phones = [f"+9198000{number:05}" for number in range(first, first + count)]
    assert shop.call("POST", "/suppressions/remove", {"phones": phones}).is_success


def test_numbers_are_added_listed_and_removed(run: Callable[..., Any]) -> None:
    done = run("suppressions", "add", "9800000001", "+919800000002", "--reason", "complaint")
    assert (done.code, done.out) == (0, "no more marketing for 2 numbers; as before: 0; not read: 0\n")
    shown = run("suppressions", "list")
    assert shown.code == 0
    assert shown.out.count("complaint") == 2
    assert shown.out.endswith("no marketing for 2 people; not to be reached: 0\n")
    assert "9800000" not in shown.out
    assert len(json.loads(run("suppressions", "list", "--json").out)["suppressions"]) == 2
    done = run("suppressions", "remove", "9800000001", "9800000003")
    assert done.out == "marketing again for 1 number; as before: 1; not read: 0\n"


def test_a_number_that_cannot_be_read_is_named_by_its_place(run: Callable[..., Any]) -> None:
    done = run("suppressions", "add", "9800000001", "12")
    assert done.code == 1
    assert "no more marketing for 1 number; as before: 0; not read: 1\nnumber 2: is not a valid number" in done.out
    told = json.loads(run("suppressions", "add", "12", "--json").out)
    assert (told["changed"], len(told["invalid"])) == (0, 1)


@pytest.mark.parametrize(
    ("text", "changed", "bad"),
    [
        ("9800000001\n\n+91 98000 00002\r\n", 2, []),
        ("\ufeffName,Mobile\nRiya,9800000001\nArjun,\n", 1, ["line 3: holds no number"]),
        ('name;phone\n"Riya";"9800000001"\n', 1, []),
        ("phone\tname\n9800000001\tRiya\n", 1, []),
        ("phone\n9800000001\n9800000001\nnobody\n", 1, ["line 4: holds something beside digits"]),
        (f"9800000001\n{'9' * 90}\n", 1, ["line 2: is too long for a number"]),
        ("phone,name\nnobody,A\n9800000001,B\n\n,C\n", 1, ["line 2: holds something", "line 5: holds no number"]),
        ('name,number\n"two\nlines",9800000001\n', 1, []),
        ("phone\n'9800000001\n+91 98000 00002;\n", 2, []),
        (
            'phone\r\n"+6281234567890.0"\r\n+91 98000 00001 (2)\r\n9800000002\r\n',
            1,
            ["line 2: has something behind it", "line 3: is not a valid number"],
        ),
    ],
)
def test_a_file_is_read_line_by_line(
    run: Callable[..., Any], tmp_path: Path, text: str, changed: int, bad: list[str]
) -> None:
    (tmp_path / "optouts.csv").write_text(text, encoding="utf-8")
    done = run("suppressions", "import", str(tmp_path / "optouts.csv"))
    told = done.out.splitlines()
    assert told[0].startswith(f"no more marketing for {changed} number")
    assert done.code == (1 if bad else 0)
    assert len(told) == 1 + len(bad)
    assert [line[: len(start)] for line, start in zip(told[1:], bad, strict=True)] == bad
    assert "98000" not in done.text.replace("such as +919800000001", "")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["add"], "`suppressions add` takes one number or more"),
        (["remove"], "`suppressions remove` takes one number or more"),
        (["list", "9800000001"], "`suppressions list` takes nothing more; a hash cannot be turned back into a number"),
        (["import"], "`suppressions import` takes one file"),
        (["import", "a", "b"], "`suppressions import` takes one file"),
        (["import", "nowhere.csv"], "nowhere.csv: No such file or directory"),
    ],
)
def test_what_is_missing_is_said(run: Callable[..., Any], given: list[str], told: str) -> None:
    done = run("suppressions", *given)
    assert (done.code, done.err) == (1, f"nector-relay: {told}\n")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\n", "holds no number"),
        (b"\xff\xfe9\x00", "is not UTF-8; save it as CSV UTF-8"),
        (b"a,b\n1,2\n", "has several columns, and none is named mobile, phone, number: name it in line 1"),
    ],
)
def test_a_file_that_is_no_list_of_numbers_is_refused_whole(
    run: Callable[..., Any], tmp_path: Path, raw: bytes, told: str
) -> None:
    (tmp_path / "bad.csv").write_bytes(raw)
    done = run("suppressions", "import", str(tmp_path / "bad.csv"))
    assert (done.code, done.err.endswith(f"bad.csv: {told}\n")) == (1, True)


def test_ten_thousand_numbers_are_imported_and_again_change_nothing(
    run: Callable[..., Any], shop: Any, tmp_path: Path
) -> None:
    (tmp_path / "all.csv").write_text("mobile\n" + "".join(f"+9198000{number:05}\n" for number in range(10_000)))
    done = run("suppressions", "import", str(tmp_path / "all.csv"))
    assert (done.code, done.out) == (0, "no more marketing for 10000 numbers; as before: 0; not read: 0\n")
    again = run("suppressions", "import", str(tmp_path / "all.csv"))
    assert again.out == "no more marketing for 0 numbers; as before: 10000; not read: 0\n"
    assert len(json.loads(run("suppressions", "list", "--json").out)["suppressions"]) == 10_000
    for first in range(0, 10_000, 1000):
        lift(shop, first, 1000)
