"""The few lines of C that stand between a test and the disk, compiled when they are needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def compile_shim(source: Path, folder: Path) -> Path:
    """Compile `source` into `folder` and return the library, to be preloaded.

    Without a compiler the test is skipped, for Python and make are all that a newcomer needs; where CI runs it fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        told = f"{source.name} has to be compiled: install a C compiler (Debian: gcc libc6-dev)"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    library = folder / f"{source.stem}.so"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source), "-ldl", "-lpthread"], check=True)
    return library
