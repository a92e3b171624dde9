"""Each dependency is named with its reason, listed and looked up; nothing is called safe that nobody asked about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.audit import NOTHING, judge_report

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/dependencies.md"


def list_direct(project: dict[str, Any]) -> set[str]:
    """Return every package that pyproject.toml names."""
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    groups += project["dependency-groups"].values()
    return {name_package(entry) for group in groups for entry in group if isinstance(entry, str)}


def name_package(requirement: str) -> str:
    """Return the name in "uvicorn>=0.54"."""
    return re.split(r"[<>=\[;! ]", requirement)[0]


def list_reasons(text: str) -> dict[str, str]:
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", text, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return dict(rows)


def test_each_direct_dependency_has_its_reason_and_none_else_has_one() -> None:
    reasons = list_reasons(PAGE.read_text())
    assert set(reasons) == list_direct(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    assert [name for name, reason in reasons.items() if len(reason.strip()) < 5] == []


def test_control_a_package_without_a_reason_is_noticed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project["project"]["dependencies"].append("left-pad>=1")
    assert list_direct(project) - set(list_reasons(PAGE.read_text())) == {"left-pad"}


def test_the_bill_of_materials_has_all_that_the_image_holds() -> None:
    (command,) = re.findall(r"uv (export [^&>]+cyclonedx1\.5)", (ROOT / "Dockerfile").read_text())
    done = subprocess.run(
        ["sh", "-c", f"{Path(sys.executable).with_name('uv')} {command}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    bill = json.loads(done.stdout)
    listed = {part["name"]: part["purl"] for part in bill["components"]}
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    direct = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert len(direct) > 10
    assert {name_package(requirement) for requirement in direct} <= set(listed)
    assert re.fullmatch(r"pkg:pypi/fastapi@[\d.]+", listed["fastapi"])
    assert "pytest" not in listed


AUDITED = {"name": "jinja2", "version": "3.1.6", "vulns": []}
FOUND = {"name": "jinja2", "version": "2.10", "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"]}]}
UNKNOWN = {"name": "babel", "skip_reason": "Dependency not found on PyPI and could not be audited: babel (2.18.0)"}


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ([AUDITED], 0, "no known vulnerability in 1 packages"),
        ([AUDITED, UNKNOWN], 0, "in 1 packages; not known to the database: babel"),
        ([AUDITED, FOUND], 1, "jinja2 2.10: PYSEC-2019-217, mended in 2.10.1"),
        ([UNKNOWN, FOUND], 1, "PYSEC-2019-217"),
        ([UNKNOWN, UNKNOWN], 0, NOTHING),  # pip-audit itself calls this "No known vulnerabilities found"
    ],
)
def test_a_report_is_judged(rows: list[dict[str, Any]], code: int, said: str) -> None:
    judged = judge_report(json.dumps({"dependencies": rows}), "")
    assert judged[0] == code
    assert said in judged[1]


@pytest.mark.parametrize(
    ("complaint", "code", "said"),
    [
        ("requests.exceptions.ConnectionError: Max retries exceeded", 0, NOTHING),
        ("ERROR: Could not connect to PyPI's vulnerability feed", 0, NOTHING),
        ("error: unrecognized arguments: --nothing", 1, "pip-audit failed: error: unrecognized"),
        ("", 1, "pip-audit failed"),
    ],
)
def test_an_audit_that_did_not_take_place_is_told_from_one_that_broke(complaint: str, code: int, said: str) -> None:
    judged = judge_report("", complaint)
    assert judged[0] == code
    assert said in judged[1]
