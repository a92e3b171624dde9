"""A real Prometheus with the files of deploy/ on a real relay: it gets in, loads the rules, fills the dashboard."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.deploy.monitoring import RULES, SCRAPE, list_queries, read_rules
from tests.faults.fault_server import find_closed_port
from tests.needing import find_program

TOKEN = "sandbox-admin-token"
WAIT_S = 40.0


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that looks at the relay and at its rules every second."""

    url: str
    folder: Path

    def ask(self, path: str, **params: Any) -> Any:
        answer = httpx2.get(f"{self.url}/api/v1/{path}", params=params, timeout=20, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def read(self, query: str) -> list[float]:
        """Return the values of what a query finds."""
        result = self.ask("query", query=query.replace("$__rate_interval", "30s"))["result"]
        return [float(each["value"][1]) for each in result]

    def wait_for(self, query: str, value: float) -> None:
        ends_at = time.monotonic() + WAIT_S
        while self.read(query) != [value]:
            assert time.monotonic() < ends_at, f"{query}: {self.read(query)}"
            time.sleep(0.2)

    def give_token(self, token: str) -> None:
        (self.folder / "relay-token").write_text(token)


@pytest.fixture
def prometheus(shop: Any, tmp_path: Path) -> Iterator[Prometheus]:
    program = find_program("prometheus", package="prometheus")
    folder = tmp_path / "prometheus"
    folder.mkdir()
    shutil.copy(RULES, folder)
    text = SCRAPE.read_text().replace("127.0.0.1:8000", shop.url.removeprefix("http://")).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text)
    address = f"127.0.0.1:{find_closed_port()}"
    running = Prometheus(f"http://{address}", folder)
    running.give_token(TOKEN)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until_ready(running, process)
        yield running
    finally:
        process.kill()
        process.wait()


def wait_until_ready(running: Prometheus, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < ends_at:
        try:
            if httpx2.get(f"{running.url}/-/ready", timeout=5, trust_env=False).is_success:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError((running.folder / "log").read_text())


def play_story(shop: Any) -> None:
    """Let happen what a dashboard may have to show: of each kind one."""
    coins = {"user_name": "Riya", "amount": "100"}
    accepted = shop.post({**coins, "user_mobile": shop.new_number()})
    shop.wait_for(accepted, "delivered", "read", field="receipt")
    shop.wait_for(shop.post({**coins, "user_mobile": "123"}), "dead")
    shop.set_fault(gallabox={"fault": "status", "status": 504})
    shop.wait_for(shop.post({**coins, "user_mobile": shop.new_number()}), "unknown")
    shop.set_fault(gallabox={"fault": "status", "status": 400})
    shop.wait_for(shop.post({**coins, "user_mobile": shop.new_number()}), "dead")
    shop.set_fault()
    assert shop.call("PUT", "/holds/route:coins-earned").is_success
    shop.wait_for(shop.post({**coins, "user_mobile": shop.new_number()}), "held")


@pytest.fixture
def story(shop: Any, prometheus: Prometheus) -> Iterator[Prometheus]:
    """A Prometheus that has seen the relay before, while and after something happened."""
    prometheus.wait_for('up{job="nector-relay"}', 1)
    play_story(shop)
    yield prometheus
    shop.call("DELETE", "/holds/route:coins-earned")


def has_data(values: list[float]) -> bool:
    return any(not math.isnan(value) for value in values)


def test_every_panel_of_the_dashboard_has_data(story: Prometheus) -> None:
    ends_at = time.monotonic() + WAIT_S
    queries = [(place, query) for place, query in list_queries() if place != "Restarts"]  # which marks what is rare
    empty = queries
    while (empty := [each for each in empty if not has_data(story.read(each[1]))]) and time.monotonic() < ends_at:
        time.sleep(0.5)
    assert empty == []
    assert story.read('changes(process_start_time_seconds{job="nector-relay"}[1m]) > 0') == []
    # By PromQL as by the relay's own account.
    assert story.read('sum(increase(nector_relay_deliveries_total{state="dead"}[5m])) > 1.5') != []
    assert story.read('nector_relay_holds{scope="route:coins-earned"}') == [1]


def test_every_rule_is_loaded_and_works(story: Prometheus) -> None:
    # Of the story's own account and route: other tests may have left an `unknown` of another account in this relay.
    story.wait_for('count(ALERTS{alertname="RelayHold",scope="route:coins-earned"})', 1)
    story.wait_for('count(ALERTS{alertname="RelayUnknown",provider="gallabox"})', 1)
    (group,) = story.ask("rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule.get("alert") or rule["record"] for rule in read_rules()]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert [rule for rule in group["rules"] if rule.get("lastError")] == []
    told = [alert["annotations"] for alert in story.ask("alerts")["alerts"]]
    assert "route:coins-earned is stopped" in {each["summary"] for each in told}
    assert not [text for each in told for text in each.values() if "<" in text or "%!" in text]


def test_nothing_of_a_customer_is_in_any_series(story: Prometheus) -> None:
    series = str(story.ask("series", **{"match[]": '{job="nector-relay"}'}))
    assert "nector_relay_oldest_due_seconds" in series
    assert "98000" not in series
    assert "Riya" not in series


def test_with_another_token_it_does_not_get_in(prometheus: Prometheus) -> None:
    prometheus.wait_for('up{job="nector-relay"}', 1)
    prometheus.give_token("wrong")
    prometheus.wait_for('up{job="nector-relay"}', 0)


def test_a_real_scrape_is_what_promtool_wants(shop: Any) -> None:
    play_story(shop)
    shop.call("DELETE", "/holds/route:coins-earned")
    done = subprocess.run(
        [find_program("promtool", package="prometheus"), "check", "metrics"],
        input=shop.call("GET", "/metrics").content,
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
