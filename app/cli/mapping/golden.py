"""Previews kept as files beside the YAML, one a route: a change of a message is then a diff that somebody reviews."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.authoring.preview import Preview, print_preview
from app.errors import RelayError

_SUFFIX = ".txt"


def print_golden(previews: Sequence[Preview]) -> str:
    """Return the file of one route: its facts, then every example."""
    route, template = previews[0].route, previews[0].template
    told = f" · {template.language} · {template.category.lower()}" if template else ""
    blocks = [f"{route.name}: {route.topic} → {route.provider} · {route.template}{told}"]
    blocks += [f"── {preview.title}\n{print_preview(preview)}" for preview in previews]
    return "\n\n".join(blocks) + "\n"


def compare_golden(folder: Path, texts: Mapping[str, str], *, update: bool, whole: bool) -> int:
    """Compare each route's text with its file and say what differs; 1 if something does.

    A file that is not there is written, except where CI runs (`CI` is set): there it is a fault, as nobody would
    commit it. `update` writes all. `whole`: `texts` are all routes, so that a file of no route is stale.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stale = _list_stale(folder, texts) if whole else []
        results = [_settle_file(folder / f"{name}{_SUFFIX}", text, update=update) for name, text in texts.items()]
        results += [_settle_stale(path, update=update) for path in stale]
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # of what is printed
            raise
        raise RelayError(f"{error.filename or folder}: cannot be used ({error.strerror})") from None
    wrong = results.count(False)
    cure = f"; if that is meant, run `nector-relay preview --golden {folder} --update`" if wrong else ""
    print(f"{folder}: {len(results) - wrong} right, {wrong} not{cure}")
    return 1 if wrong else 0


def _list_stale(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem not in texts)


def _settle_file(path: Path, text: str, *, update: bool) -> bool:
    kept = path.read_text(encoding="utf-8") if path.exists() else None
    if kept == text:
        return True
    if update or (kept is None and not os.environ.get("CI")):
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
        return True
    if kept is None:
        print(f"{path}: is not there")
        return False
    print("".join(_compare_lines(path, kept, text)), end="")
    return False


def _compare_lines(path: Path, kept: str, text: str) -> list[str]:
    lines = difflib.unified_diff(kept.splitlines(keepends=True), text.splitlines(keepends=True), str(path), "now")
    return [line if line.endswith("\n") else f"{line}\n" for line in lines]


def _settle_stale(path: Path, *, update: bool) -> bool:
    if update:
        path.unlink()
        print(f"removed {path}: no route has its name")
        return True
    print(f"{path}: no route has its name")
    return False
