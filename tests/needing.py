"""Programs that a few tests need and that no index of Python packages has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def find_program(*names: str, package: str) -> str:
    """Return the first of these programs that is installed; without one the test is left out."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or leave_out(f"{names[0]} is not installed (Debian: {package})")


def need_file(path: Path, how: str) -> None:
    """Leave the test out if the path is not there; `how` says where it comes from."""
    if not path.exists():
        leave_out(f"{path.parent.name}/{path.name} is not there: {how}")


def leave_out(why: str) -> NoReturn:
    """Skip, for Python and make are all that a newcomer needs; where CI runs, fail."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
