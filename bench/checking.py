"""How long `nector-relay check` takes on many routes: the bundled ones over and over, each with its examples.

`python -m bench.checking --routes 200` writes the file into a folder of its own and runs the command as a process.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from bench.subjects import BENCH

CONFIG = BENCH.parent / "config"
_ROUTE = re.compile(r"^  ([a-z][a-z0-9-]*):.*\n(?:(?:    .*|\s*)\n)+", re.MULTILINE)


def repeat_routes(text: str, count: int) -> str:
    """Return the YAML with `count` routes: those of `text` in turn, each under a name and a topic of its own."""
    head, _, section = text.partition("\nroutes:\n")
    routes = [found[0].rstrip("\n") for found in _ROUTE.finditer(section + "\n")]
    many = []
    for number, route in enumerate(islice(cycle(routes), count)):
        renamed = re.sub(r"^  ([a-z0-9-]+):", rf"  \1-{number}:", route)
        many.append(re.sub(r"event: ([a-z]+)_create", rf"event: \1_{number}_create", renamed, count=1))
    return f"{head}\nroutes:\n" + "\n\n".join(many) + "\n"


def time_check(folder: Path, rounds: int) -> tuple[list[float], str]:
    """Return the seconds of each run, process start included, and the command's last line."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "app", "check", "relay.yaml"],
            cwd=folder,
            env={"PYTHONPATH": str(BENCH.parent), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - began)
    return seconds, done.stdout.splitlines()[-1]


def main() -> None:
    """Print the command's own summary and the median of its runs."""
    parser = argparse.ArgumentParser(prog="python -m bench.checking", description=__doc__.splitlines()[0])
    parser.add_argument("--routes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "relay.yaml").write_text(repeat_routes((CONFIG / "relay.yaml").read_text(), given.routes))
        (folder / "templates.yaml").write_text((CONFIG / "templates.yaml").read_text())
        seconds, summary = time_check(folder, given.rounds)
    print(summary)
    print(f"median {statistics.median(seconds):.2f} s of {given.rounds}, from the process's start to its end")


if __name__ == "__main__":
    main()
