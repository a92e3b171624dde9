"""What is seen without running: how secrets are compared, how SQL is put together, what the repository holds."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = [path for path in sorted((ROOT / "app").rglob("*.py")) if "sandbox" not in path.parts]

# -- S2: a secret is compared in constant time -------------------------------------------------------

SECRET_NAMES = re.compile(r"(^|_)(secrets?|tokens?|signature|digest|hmac|password)($|_)")
# What is only asked whether it is there, or is no secret but a name of one.
HARMLESS = (ast.Constant,)


def find_comparisons(source: str) -> Iterator[int]:
    """Yield the lines where something named as a secret is compared by == or !=, or looked for by `in`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare) or not all(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, HARMLESS) for side in sides):
            continue
        if any(SECRET_NAMES.search(name) for side in sides for name in list_names(side)):
            yield node.lineno


def list_names(node: ast.AST) -> Iterator[str]:
    """Yield the last name of what a side is: of `a.b_secret` that is b_secret; of a call, of what it is asked of."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name.lower()
        case ast.Call(func=ast.Attribute(value=value, attr="get_secret_value" | "encode" | "strip" | "lower")):
            yield from list_names(value)


@pytest.mark.parametrize("path", APP, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_secret_is_compared_by_equality(path: Path) -> None:
    assert list(find_comparisons(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("given == self._token", True),
        ("settings.admin_token.get_secret_value() != given", True),
        ("secret.encode() == given", True),
        ("hmac.compare_digest(given, secret)", False),
        ("tokens == 3", False),
        ("name == other", False),
    ],
)
def test_control_a_comparison_of_a_secret_is_found(source: str, is_found: bool) -> None:
    assert bool(list(find_comparisons(source))) is is_found


# -- S18: SQL is put together from our own words -----------------------------------------------------


def find_wild_sql(source: str) -> Iterator[int]:
    """Yield the lines where SQL is put together from anything but names in capitals, and nobody has said why."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|DROP|PRAGMA|ALTER|VACUUM)\b", text) is None:
            continue
        parts = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        are_ours = all(isinstance(part, ast.Name | ast.Attribute) and ast.unparse(part).isupper() for part in parts)
        if not are_ours and "noqa: S608" not in lines[(node.end_lineno or 1) - 1]:
            yield node.lineno


def test_sql_is_put_together_from_our_own_words() -> None:
    found = {str(path.relative_to(ROOT)): list(find_wild_sql(path.read_text())) for path in APP}
    explained = {
        "app/outbox/postgres/schema.py",  # a schema, whose name is small letters and digits
        "app/outbox/sqlite/backup.py", "app/outbox/sqlite/file.py", "app/outbox/sqlite/migrations.py",
        "app/outbox/sqlite/store.py",
        "app/outbox/sqlite/sidecars.py",  # pragmas of a list of ours, and a number that SQLite told
    }  # fmt: skip
    assert {path for path, lines in found.items() if lines} <= explained


def test_control_sql_with_a_value_in_it_is_found() -> None:
    assert list(find_wild_sql('x = f"SELECT * FROM t WHERE a = {phone}"')) == [1]
    assert list(find_wild_sql('x = f"SELECT {COLUMNS} FROM t WHERE a = :a"')) == []


# -- S25: no secret is in the repository -------------------------------------------------------------

KEYS = {
    "AWS": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub": r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b",
    "Google": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "Slack": r"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "Stripe": r"\b[rs]k_live_[0-9A-Za-z]{16,}",
    "Meta": r"\bEAA[0-9A-Za-z]{80,}",
    "Twilio": r"\bSK[0-9a-f]{32}\b",
    "JWT": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",
    "PEM": r"-----BEGIN (RSA |EC |OPENSSH |ENCRYPTED )?PRIVATE KEY-----",
    "URL": r"\bhttps?://(?!(user|USER|u|ann|me|relay|proxy|someone)\b)[A-Za-z0-9_]+:[^@\s/\"'`{}<>*]{8,}@[a-z0-9.-]+",
}
PATTERN = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in KEYS.items()))
BINARY = {".png", ".db", ".gz"}


def read_files() -> Iterable[tuple[str, str]]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in done.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix not in BINARY and path.name not in {"uv.lock", "package-lock.json"}:
            yield name, path.read_text(encoding="utf-8", errors="replace")


def find_keys(text: str) -> list[str]:
    return [str(found.lastgroup) for found in PATTERN.finditer(text)]


def test_no_file_holds_a_key_of_anybody() -> None:
    found = {name: find_keys(text) for name, text in read_files()}
    assert {name: keys for name, keys in found.items() if keys and name != "tests/security/test_static.py"} == {}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_commit_ever_held_a_key_of_anybody() -> None:
    told = subprocess.Popen(
        ["git", "log", "-p", "--unified=0", "--no-color", "--no-textconv", "--", ".", ":!uv.lock",
         ":!tests/security/test_static.py"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    with told as log:
        assert log.stdout is not None
        found = [line[:200] for line in log.stdout if line.startswith("+") and len(line) < 100_000 and find_keys(line)]
    assert found == []


SAMPLES = {
    "AWS": "AKIA" + "A" * 16,
    "GitHub": "ghp_" + "a" * 36,
    "Google": "AIza" + "b" * 35,
    "Slack": "xoxb-" + "1" * 12,
    "Stripe": "sk_live_" + "c" * 24,
    "Meta": "EAA" + "d" * 90,
    "Twilio": "SK" + "0" * 32,
    "JWT": ".".join(["eyJ" + "a" * 30, "eyJ" + "b" * 30, "c" * 30]),
    "PEM": "-----BEGIN " + "PRIVATE KEY-----",
    "URL": "https://admin:" + "hunter2hunter2" + "@host.example",
}


@pytest.mark.parametrize("name", KEYS)
def test_control_a_key_is_found(name: str) -> None:
    assert find_keys(f"KEY={SAMPLES[name]}\n") == [name]
