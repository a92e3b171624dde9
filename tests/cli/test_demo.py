"""`nector-relay demo`: what `make demo` runs, right and wrong."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROUTES = {
    "coins-earned", "coupon-ready", "referral-rewarded", "referral-welcome", "referral-unfinished", "coins-expiring",
    "coins-unused", "coupon-unused", "review-request", "review-thanks", "tier-changed",
}  # fmt: skip


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """An environment in which the demo's folder is made where the test can look for it."""
    (tmp_path / "tmp").mkdir()
    return {"TMPDIR": str(tmp_path / "tmp")}


def list_left(places: Mapping[str, str]) -> list[str]:
    """Return what a demo has left: its folder, and processes that have it in their environment."""
    left = [str(path) for path in Path(places["TMPDIR"]).iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            given = (process / "environ").read_bytes()
        except OSError:
            continue
        if f"TMPDIR={places['TMPDIR']}\0".encode() in given:
            left.append(f"{process.name}: {(process / 'cmdline').read_bytes()!r}")
    return left


def read_summary(out: str) -> dict[str, str]:
    """Return (route, check) of the table at the end."""
    table = out[out.index("\nroute ") :]
    return dict(re.findall(r"^([a-z-]+) .* (right|wrong) *$", table, re.MULTILINE))


def test_every_route_is_accepted_and_delivered_in_plain_text(
    folder: Path, run_program: Callable[..., Any], places: dict[str, str]
) -> None:
    done = run_program("demo", folder=folder, environment=places)
    assert (done.code, done.err) == (0, "")
    assert read_summary(done.out) == dict.fromkeys(ROUTES, "right")
    assert done.out.endswith("\n11 of 11 messages accepted and delivered\n")
    assert re.search(r"^total +11 +11 100% +11 100% +11 100% ", done.out, re.MULTILINE)  # what `report` says of it
    assert "\x1b" not in done.out
    assert len(re.findall(r"^accepted after \d+ ms · read after \d+ ms$", done.out, re.MULTILINE)) == 11
    assert "│ Welcome to Gold\n" in done.out
    assert list_left(places) == []


def test_the_env_file_of_a_real_shop_does_not_lead_it_astray(
    folder: Path, run_program: Callable[..., Any], places: dict[str, str], serving_environment: dict[str, str]
) -> None:
    (folder / "config/relay.yaml").rename(folder / "config/shop.yaml")
    given = {
        **serving_environment,
        "RELAY_CONFIG": "config/shop.yaml",
        "RELAY_DATABASE_URL": "sqlite:///real.db",
        "RELAY_NECTOR_HMAC": "enforce",
        "RELAY_LOG_FORMAT": "console",
    }
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    done = run_program("demo", "--json", folder=folder, environment=places)
    assert (done.code, done.err) == (0, "")
    assert not (folder / "real.db").exists()
    told = json.loads(done.out)
    assert {row["route"] for row in told["messages"] if row["right"]} == ROUTES
    assert told["messages"][0]["accepted_ms"] >= 0
    assert told["report"]["total"]["accepted"] == len(ROUTES)


def test_a_message_that_never_comes_through_is_1(
    folder: Path, run_program: Callable[..., Any], places: dict[str, str], edit: Callable[..., Path]
) -> None:
    """The sandbox has no such template: it refuses, as the provider would."""
    path = edit("template: review_thanks", "template: review_thank")
    keep_routes(path, "review-thanks", "tier-changed")
    done = run_program("demo", folder=folder, environment=places)
    assert done.code == 1
    assert read_summary(done.out) == {"review-thanks": "wrong", "tier-changed": "right"}
    assert "(nothing arrived)" in done.out
    assert "1 of 2 messages accepted and delivered" in done.out
    assert "Traceback" not in done.err
    assert list_left(places) == []


def keep_routes(path: Path, *names: str) -> None:
    """Leave only these routes in the YAML."""
    head, routes = path.read_text().split("\nroutes:\n")
    blocks = re.split(r"\n(?=  [a-z-]+:)", "\n" + routes)
    kept = [block for block in blocks if block.strip().split(":")[0] in names]
    assert len(kept) == len(names)
    path.write_text(f"{head}\nroutes:\n" + "\n".join(kept))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("event: walletreward_create", "event: 7", "config/relay.yaml cannot be used:\nconfig/relay.yaml:"),
        (
            "base_url: ${GALLABOX_BASE_URL:-https://server.gallabox.com}",
            "base_url: https://server.gallabox.example",
            "provider gallabox would not send to the sandbox",
        ),
    ],
)
def test_a_yaml_that_cannot_be_shown_is_1_and_nothing_is_started(
    folder: Path,
    run_program: Callable[..., Any],
    places: dict[str, str],
    edit: Callable[..., Path],
    old: str,
    new: str,
    said: str,
) -> None:
    edit(old, new)
    done = run_program("demo", folder=folder, environment=places)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert list_left(places) == []


def test_a_route_without_an_example_is_1_and_named(
    folder: Path, run_program: Callable[..., Any], places: dict[str, str], edit: Callable[..., Path]
) -> None:
    path = edit("  review-thanks:", "  review-thanks:")
    keep_routes(path, "review-thanks")
    path.write_text(path.read_text().split("    examples:\n")[0].replace("    examples:", ""))
    done = run_program("demo", folder=folder, environment=places)
    assert done.code == 1
    assert "route review-thanks has no example that sends" in done.err
    assert list_left(places) == []


@pytest.mark.parametrize(("told", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_demo_that_is_stopped_takes_its_relay_and_its_folder_with_it(
    folder: Path, start_program: Callable[..., Any], places: dict[str, str], told: signal.Signals, code: int
) -> None:
    with start_program("demo", folder=folder, environment=places) as demo:
        demo.wait_for("outbox in ")
        assert len(list_left(places)) >= 3  # the control: the folder, the demo, its relay
        assert demo.stop(told) == code
        assert demo.err == ""
    assert list_left(places) == []
