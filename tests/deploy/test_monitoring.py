"""The alert rules and the dashboard: what they ask for exists, and each alert fires when it should and only then."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.observe.metrics import Metrics
from tests.deploy.monitoring import (
    DASHBOARD,
    RULES,
    SCRAPE,
    describe_metrics,
    find_faults,
    list_queries,
    read_alerts,
    read_panels,
    read_rules,
)
from tests.needing import find_program


def run_promtool(*arguments: str, given: bytes | None = None) -> str:
    """Return what promtool says; fail if it is not content."""
    program = find_program("promtool", package="prometheus")
    done = subprocess.run(
        [program, *arguments], input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=50
    )
    text = done.stdout.decode()
    assert done.returncode == 0, text
    return text


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", read_rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_what_the_relay_has(rule: dict[str, Any]) -> None:
    assert find_faults(rule["expr"]) == []


@pytest.mark.parametrize(("place", "query"), list(list_queries()))
def test_a_panel_asks_for_what_the_relay_has(place: str, query: str) -> None:
    assert find_faults(query) == [], place


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("rate(relay_event_total[5m])", "relay_event_total"),
        ('nector_relay_holds{provider="gallabox"}', "nector_relay_holds{provider}"),
        ('nector_relay_outbox_deliveries{state="lost"}', "lost"),
        ("sum by (route) (nector_relay_outbox_deliveries)", "route"),
        ("nector_relay_accept_seconds > 1", "nector_relay_accept_seconds"),
        ('up{job="relay"}', "relay"),
        ("relay_holds", "relay_holds"),  # as it was called up to 0.1
    ],
)
def test_what_no_relay_has_is_found(query: str, fault: str) -> None:
    assert find_faults(query) == [fault]


def test_every_metric_of_the_relay_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = " ".join([*(query for _, query in list_queries()), *(rule["expr"] for rule in read_rules())])
    ours = {name for name in describe_metrics() if name.startswith("nector_relay_")}
    unused = {name for name in ours if name not in asked}
    assert {name for name in unused if not name.endswith(("_sum", "_count"))} == {
        "nector_relay_hmac_total",
    }


# -- form ------------------------------------------------------------------------------------------


def test_promtool_finds_nothing_wrong() -> None:
    assert f"{len(read_rules())} rules found" in run_promtool("check", "rules", str(RULES))
    run_promtool("check", "config", "--syntax-only", str(SCRAPE))


def test_promtool_likes_our_names() -> None:
    metrics = Metrics()
    metrics.expect_providers(["gallabox"])
    assert run_promtool("check", "metrics", given=metrics.show()) == ""


@pytest.mark.parametrize("name", sorted(read_alerts()))
def test_an_alert_says_what_to_do(name: str) -> None:
    alert = read_alerts()[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert len(alert["annotations"]["description"]) > 80


def test_the_dashboard_is_in_order() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "nector-relay"
    assert [each["type"] for each in dashboard["templating"]["list"]] == ["datasource"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in read_panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    places = [
        (x, y)
        for panel in dashboard["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(places) == len(set(places)), "no panel lies on another"
    assert max(x for x, _ in places) < 24


# -- alerts: the same rules, on series made up ------------------------------------------------------

HOUR = 60
DAY = 24 * HOUR


class Story(NamedTuple):
    """Series by the minute in promtool's words, and when to look. `quiet` is the nearest that must not fire."""

    fires: Mapping[str, str]
    at: int
    quiet: Mapping[str, str]
    quiet_at: int | None = None  # else `at`
    every: int = 1  # minutes between two evaluations


UP = 'up{job="nector-relay", instance="a"}'
STARTED = 'process_start_time_seconds{job="nector-relay", instance="a"}'


def count(name: str, **labels: str) -> str:
    """Return the name of a series of instance a."""
    written = [f'{key}="{value}"' for key, value in {**labels, "instance": "a"}.items()]
    return f"{name}{{{', '.join(written)}}}"


def fill(name: str, late: str, **labels: str) -> dict[str, str]:
    """Return a histogram of which each minute `late` more are beyond its middle bucket."""
    bounds = {"nector_relay_accept_seconds": ("5", "10"), "nector_relay_event_to_accepted_seconds": ("300", "900")}[
        name
    ]
    below, above = (count(f"{name}_bucket", le=bound, **labels) for bound in bounds)
    return {below: "0+100x200", above: late, count(f"{name}_bucket", le="+Inf", **labels): late}


LAST = "nector_relay_last_event_timestamp_seconds"
GALLABOX = {"provider": "gallabox"}
STATES = {"route": "coins-earned", **GALLABOX}
ACCEPTED = count("nector_relay_deliveries_total", **STATES, state="accepted")
DELIVERED = count("nector_relay_receipts_total", **GALLABOX, status="delivered")
# An event every half an hour (its time is shown until the next one) for two days, then none for a week; and a shop
# that sleeps for 8 hours of each day.
BUSY = [f"{minute * 60}x29" for minute in range(0, 2 * DAY, 30)]
SILENT = " ".join([*BUSY, f"{(2 * DAY - 30) * 60}x{7 * DAY}"])
SLEEPY = " ".join(
    f"{(day * DAY + minute) * 60}x{29 if minute < 15 * HOUR else 9 * HOUR - 1}"
    for day in range(4)
    for minute in range(0, 15 * HOUR + 1, 30)
)

STORIES: Mapping[str, Story] = {
    "RelayDown": Story({UP: "1 1 0x20"}, 6, {UP: "1 1 0 0 1x20"}),
    "RelayRestarting": Story({STARTED: "1 1 2 3 4 4x20"}, 8, {STARTED: "1 1 2 3 3x20"}),
    "RelayRefusesEvents": Story(
        {count("nector_relay_events_total", topic="other", result="unavailable"): "0 0 1 1x20"},
        5,
        {count("nector_relay_events_total", topic="other", result="refused"): "0 0 9 9x20"},
    ),
    "RelayStoreFails": Story(
        {count("nector_relay_store_errors_total", work="sweep"): "0+12x20"},
        8,
        {count("nector_relay_store_errors_total", work="sweep"): "0 0 2 2x20"},
    ),
    "RelayHearsNothing": Story(
        {LAST + '{topic="coupon_create"}': SILENT},
        2 * DAY + 90,
        {LAST + '{topic="coupon_create"}': SLEEPY},
        4 * DAY - 10,
        every=30,
    ),
    "RelayUnauthorised": Story(
        {count("nector_relay_events_total", topic="other", result="unauthorised"): "0+1x30"},
        10,
        {count("nector_relay_events_total", topic="other", result="unauthorised"): "0 0 1 2 2x30"},
    ),
    "RelayRefusesSource": Story(
        {count("nector_relay_requests_refused_total", kind="webhook", reason="path"): "0+1x30"},
        12,
        {
            count("nector_relay_requests_refused_total", kind="webhook", reason="path"): "0 0 3 3x30",
            count("nector_relay_requests_refused_total", kind="webhook", reason="busy"): "0+9x30",
        },
    ),
    "RelayConnectionsFull": Story(
        {count("nector_relay_connections_ended_total", reason="address"): "0 0 30 30x20"},
        8,
        {
            count("nector_relay_connections_ended_total", reason="full"): "0 0 9 9x20",
            count("nector_relay_connections_ended_total", reason="late"): "0+9x20",
        },
    ),
    "RelayLogDropped": Story(
        {count("nector_relay_log_lines_dropped_total"): "0 0 1 1x20"},
        8,
        {count("nector_relay_log_lines_dropped_total"): "7x20"},
    ),
    "RelayAnswersSlowly": Story(
        fill("nector_relay_accept_seconds", "0+120x200"), 20, fill("nector_relay_accept_seconds", "0+100x200")
    ),
    "RelayLate": Story(
        {count("nector_relay_oldest_due_seconds", **GALLABOX): "0+60x30"},
        8,
        {count("nector_relay_oldest_due_seconds", **GALLABOX): "0 60 120 180 240 299x30"},
    ),
    "RelayAcceptedLate": Story(
        fill("nector_relay_event_to_accepted_seconds", "0+120x200"),
        40,
        fill("nector_relay_event_to_accepted_seconds", "0+102x200"),
    ),
    "RelayHold": Story(
        {count("nector_relay_holds", scope="route:coins-earned"): "1x20"},
        4,
        {count("nector_relay_holds", scope="route:coins-earned"): "1 stale _x20"},
    ),
    "RelayLimitReached": Story(
        {count("nector_relay_limits_reached_total", limit="route"): "0 0 1 1x20"},
        5,
        {count("nector_relay_limits_reached_total", limit="person"): "0 0 9 9x20"},
    ),
    "RelayUnknown": Story(
        {count("nector_relay_outbox_deliveries", **GALLABOX, state="unknown"): "1x90"},
        70,
        {count("nector_relay_outbox_deliveries", **GALLABOX, state="unknown"): "1x50 0 1x30"},
    ),
    "RelayDead": Story(
        {count("nector_relay_deliveries_total", **STATES, state="dead"): "0 0 9 9x30"},
        20,
        {count("nector_relay_deliveries_total", **STATES, state="dead"): "0 0 3 3x30"},
    ),
    "RelayExpired": Story(
        {count("nector_relay_deliveries_total", **STATES, state="expired"): "0 0 9 9x30"},
        20,
        {count("nector_relay_deliveries_total", **STATES, state="suppressed"): "0 0 9 9x30"},
    ),
    "RelayReceiptsStopped": Story(
        {ACCEPTED: f"0+1x{DAY}", DELIVERED: f"0+1x60 60x{DAY}"},
        12 * HOUR,
        {ACCEPTED: f"0+1x{DAY}", DELIVERED: f"0x{DAY}"},  # they were never set up
        every=10,
    ),
    "RelayReceiptsForged": Story(
        {count("nector_relay_receipts_total", **GALLABOX, status="forged"): "0+1x30"},
        10,
        {count("nector_relay_receipts_total", **GALLABOX, status="failed"): "0+1x30"},
    ),
    "RelayConfigRefused": Story(
        {count("nector_relay_config_last_reload_successful"): "1 0x20"},
        5,
        {count("nector_relay_config_last_reload_successful"): "1 0 0 1x20"},
    ),
    "RelayReplicasDiffer": Story(
        {count("nector_relay_replicas", release="1", config="a"): "2x40",
         count("nector_relay_replicas", release="1", config="b"): "_x10 1x30"},
        30,
        {count("nector_relay_replicas", release="1", config="a"): "2x40",
         count("nector_relay_replicas", release="1", config="b"): "_x10 1x5 stale _x30"},
    ),
    "RelayClockStepped": Story(
        {count("nector_relay_clock_steps_total"): "0 0 1 1x20"},
        10,
        {count("nector_relay_clock_steps_total"): "1x20"},
    ),
}  # fmt: skip


def judge(rules: Path, folder: Path, stories: Mapping[str, Story], also: Sequence[int] = ()) -> str:
    """Have promtool look whether each alert fires in its story (at these times, too) and not in the quiet one."""

    def ask(name: str, series: Mapping[str, str], at: Sequence[int], expected: int) -> dict[str, Any]:
        # Without `up` another alert fires; which is none of this one's.
        known = {UP: f"1x{9 * DAY}", **series}
        return {
            "interval": "1m",
            "input_series": [{"series": key, "values": values} for key, values in known.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                    "eval_time": f"{minute}m",
                    "exp_samples": [{"labels": "{}", "value": expected}],
                }
                for minute in at
            ],
        }

    tests = [ask(name, story.fires, (story.at, *also), 1) for name, story in stories.items()]
    tests += [ask(name, story.quiet, [story.quiet_at or story.at], 0) for name, story in stories.items()]
    asked = folder / "stories.json"  # which is YAML, too
    every = f"{max(story.every for story in stories.values())}m"
    asked.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": every, "tests": tests}))
    return run_promtool("test", "rules", str(asked))


def test_there_is_a_story_of_every_alert() -> None:
    assert set(STORIES) == set(read_alerts())


@pytest.mark.parametrize("name", STORIES)
def test_an_alert_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    judge(RULES, tmp_path, {name: STORIES[name]})


@pytest.mark.parametrize(("old", "new"), [("> 300\n        for: 1m", "> 30000\n        for: 1m"), ("> 300", "> 200")])
def test_a_wrong_threshold_is_noticed(old: str, new: str, tmp_path: Path) -> None:
    """The control: of two wrong rules one never fires, and the other where it should not."""
    text = RULES.read_text()
    assert old in text
    wrong = tmp_path / "alerts.yml"
    wrong.write_text(text.replace(old, new, 1))
    with pytest.raises(AssertionError, match="RelayLate"):
        judge(wrong, tmp_path, {"RelayLate": STORIES["RelayLate"]})


def test_a_silence_that_goes_on_goes_on_firing(tmp_path: Path) -> None:
    also = [int((2 + days) * DAY) for days in (0.5, 1.25, 1.75, 2.25, 3)]
    judge(RULES, tmp_path, {"RelayHearsNothing": STORIES["RelayHearsNothing"]}, also)
