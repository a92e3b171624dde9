"""`nector-relay serve`: what it refuses and with which code, and how it stops."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
TOKEN = {"authorization": "Bearer sandbox-admin-token"}


@pytest.fixture
def configured(
    folder: Path, serving_environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """This process's environment is `.env.example`; the outbox is in the test's folder."""
    del folder
    for name, value in serving_environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def read_rows(url: str, path: str = "/deliveries") -> list[dict[str, Any]]:
    answer = httpx2.get(f"{url}{path}", headers=TOKEN, timeout=20, trust_env=False)
    rows: list[dict[str, Any]] = answer.json()["deliveries"]
    return rows


def wait_for_state(url: str, *states: str) -> dict[str, Any]:
    """Return the one delivery once it is in one of the states."""
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        (row,) = read_rows(url)
        if row["state"] in states:
            return row
        time.sleep(0.02)
    raise AssertionError(f"not {states}: {row}")


# -- what it refuses ------------------------------------------------------------------------------


def test_a_yaml_with_errors_is_78_and_every_line_is_told(
    folder: Path, run_program: Callable[..., Any], serving_environment: dict[str, str]
) -> None:
    path = folder / "config/relay.yaml"
    text = path.read_text().replace("template: coins_earned", "temlate: coins_earned")
    path.write_text(text.replace("event: coupon_create", "event: 7"))
    done = run_program("serve", folder=folder, environment=serving_environment)
    assert (done.code, done.out) == (78, "")
    first, *lines = done.err.splitlines()
    assert first == "nector-relay: config/relay.yaml cannot be used:"
    assert all(re.match(r"config/relay\.yaml:\d+:\d+: error: ", line) for line in lines)
    wrong = {
        number for number, line in enumerate(path.read_text().splitlines(), 1) if re.search("temlate|event: 7", line)
    }
    assert wrong <= {int(line.split(":")[1]) for line in lines}
    assert not (folder / "data").exists()


def test_without_a_secret_it_refuses_to_start(run: Callable[..., Any], configured: pytest.MonkeyPatch) -> None:
    configured.setenv("RELAY_NECTOR_SECRETS", " , ")
    done = run("serve")
    assert done.code == 78
    assert "RELAY_NECTOR_SECRETS is not set, so anybody could post events" in done.err


def test_a_yaml_that_cannot_be_read_is_78(run: Callable[..., Any], configured: pytest.MonkeyPatch) -> None:
    configured.setenv("RELAY_CONFIG", "nothing.yaml")
    done = run("serve")
    assert done.code == 78
    assert "nothing.yaml: cannot be read (No such file or directory); set RELAY_CONFIG or --config" in done.err


def test_names_that_are_not_set_are_78_and_all_told_as_errors(
    run: Callable[..., Any], configured: pytest.MonkeyPatch
) -> None:
    configured.delenv("GALLABOX_API_KEY")
    configured.setenv("BITESPEED_USER_ID", "")
    done = run("serve")
    assert done.code == 78
    assert re.findall(
        r"^config/relay\.yaml:\d+:\d+: error: the environment variable (\w+) is not set(?:;.*)?$",
        done.err,
        re.MULTILINE,
    ) == [
        "GALLABOX_API_KEY",
        "BITESPEED_USER_ID",
    ]


def test_a_literal_secret_is_78_and_not_told(
    run: Callable[..., Any], configured: pytest.MonkeyPatch, edit: Callable[..., Path]
) -> None:
    del configured
    edit("api_secret: ${GALLABOX_API_SECRET}", "api_secret: canary-1")
    done = run("serve")
    assert done.code == 78
    assert "a secret must come from the environment" in done.err
    assert "canary" not in done.text


def test_what_is_wrong_in_settings_secrets_and_yaml_is_told_at_once(
    run: Callable[..., Any], configured: pytest.MonkeyPatch, edit: Callable[[str, str], Path]
) -> None:
    edit("template:", "temlate:")
    configured.setenv("RELAY_LOG_LEVEL", "loud")
    configured.setenv("RELAY_SETTLE_AFTER", "5")
    configured.setenv("RELAY_NECTOR_SECRETS", "")
    done = run("serve")
    assert done.code == 78
    for said in ("RELAY_LOG_LEVEL: ", "RELAY_SETTLE_AFTER: ", "RELAY_NECTOR_SECRETS is not set", '"temlate"'):
        assert said in done.err


def test_wrong_settings_are_78_and_all_named(run: Callable[..., Any], configured: pytest.MonkeyPatch) -> None:
    configured.setenv("RELAY_LOG_LEVEL", "loud")
    configured.setenv("RELAY_SHUTDOWN_GRACE", "5")
    configured.setenv("RELAY_DATABASE_URL", "mysql://relay@127.0.0.1/relay")
    done = run("serve")
    assert done.code == 78
    assert re.findall(r"^  (RELAY_\w+): ", done.err, re.MULTILINE) == [
        "RELAY_DATABASE_URL",
        "RELAY_LOG_LEVEL",
        "RELAY_SHUTDOWN_GRACE",
    ]


def test_the_option_wins_over_both_settings_and_the_inline_yaml_over_the_file(
    run: Callable[..., Any], configured: pytest.MonkeyPatch
) -> None:
    configured.setenv("RELAY_CONFIG_YAML", "version: 2\n")
    assert "RELAY_CONFIG_YAML:1:10: error: " in run("serve").err
    assert "missing.yaml: cannot be read" in run("serve", "--config", "missing.yaml").err


@pytest.mark.parametrize("content", [b"garbage\n", b"", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_outbox_is_74_and_stays_as_it_is(
    folder: Path, run: Callable[..., Any], configured: pytest.MonkeyPatch, content: bytes
) -> None:
    (folder / "odd.db").write_bytes(content)
    configured.setenv("RELAY_DATABASE_URL", "sqlite:///odd.db")
    done = run("serve")
    assert done.code == 74
    assert done.err.startswith(f"nector-relay: {folder.resolve()}/odd.db: ")
    assert (folder / "odd.db").read_bytes() == content


@pytest.mark.parametrize("path", ["/proc/relay.db", "config/relay.yaml/relay.db", "config"])
def test_a_place_where_no_outbox_can_be_is_74(
    run: Callable[..., Any], configured: pytest.MonkeyPatch, path: str
) -> None:
    configured.setenv("RELAY_DATABASE_URL", f"sqlite:///{path}")
    done = run("serve")
    assert done.code == 74
    assert path.removesuffix("/relay.db") in done.err
    assert "fault of ours" not in done.err


def test_a_second_process_is_75_and_a_taken_port_is_1(
    folder: Path,
    start_serving: Callable[..., Any],
    run_program: Callable[..., Any],
    serving_environment: dict[str, str],
) -> None:
    with start_serving(folder, serving_environment) as (relay, url):
        port = url.rpartition(":")[2]
        second = run_program("serve", "--port", "0", folder=folder, environment=serving_environment)
        assert (second.code, second.out) == (75, "")
        assert f"in use by process {relay.process.pid} " in second.err
        other = {**serving_environment, "RELAY_DATABASE_URL": "sqlite:///other.db", "RELAY_LOG_LEVEL": "error"}
        taken = run_program("serve", "--host", "127.0.0.1", "--port", port, folder=folder, environment=other)
        assert taken.code == 1
        said = f"cannot listen on 127.0.0.1:{port} (Address already in use); choose another --host or --port"
        assert taken.err == f"nector-relay: {said}\n"
        assert httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200


def test_the_env_file_is_read_the_process_wins_and_a_misspelt_name_only_warns(
    folder: Path, start_serving: Callable[..., Any], serving_environment: dict[str, str]
) -> None:
    given = {**serving_environment, "RELAY_LOG_FORMAT": "console", "RELAY_LOG_LEVLE": "debug"}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    with start_serving(folder, {"RELAY_LOG_FORMAT": "json", "GALLABOX_WEBHOOK_SECRET": '"canary"'}) as (relay, url):
        lines = [json.loads(line) for line in relay.out.splitlines()]
        assert [line["name"] for line in lines if line["event"] == "setting.unknown"] == ["RELAY_LOG_LEVLE"]
        quoted = [line["name"] for line in lines if line["event"] == "setting.quoted"]
        assert (quoted, "canary" in relay.out) == (["providers.gallabox.webhook_secret"], False)
        assert [line["event"] for line in lines].count("relay.started") == 1
        assert read_rows(url) == []
        assert (folder / "data/relay.db").exists()
        assert relay.stop() == 0
        assert relay.err == ""


# -- how it stops ---------------------------------------------------------------------------------


def send_half(url: str) -> socket.socket:
    """Send the head of a webhook and half of its body."""
    host, port = url.removeprefix("http://").split(":")
    half = socket.create_connection((host, int(port)))
    secret = hashlib.sha256(b"sandbox-nector-secret").hexdigest()
    half.sendall(
        b"POST /webhooks/nector HTTP/1.1\r\nhost: relay.example\r\ncontent-type: application/json\r\n"
        b"x-nector-topic: lead_create\r\ncontent-length: 100\r\n"
        b"x-nector-webhook-secret: " + secret.encode() + b'\r\n\r\n{"a":'
    )
    return half


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_inside_the_grace_period_though_a_body_is_half_sent(
    folder: Path, start_serving: Callable[..., Any], serving_environment: dict[str, str], told: signal.Signals
) -> None:
    given = {**serving_environment, "RELAY_SHUTDOWN_GRACE": "1s"}
    with start_serving(folder, given) as (relay, url), send_half(url):
        httpx2.get(f"{url}/healthz", trust_env=False)  # answered after the half was read
        assert relay.stop(told) == 0
        assert '"relay.stopped"' in relay.out
        assert relay.err == ""


def test_a_provider_that_hangs_leaves_an_unknown_delivery_that_is_not_sent_again(
    folder: Path,
    start_program: Callable[..., Any],
    start_serving: Callable[..., Any],
    serving_environment: dict[str, str],
    post_event: Callable[..., httpx2.Response],
) -> None:
    options = ("--port", "0", "--relay-url", "", "--fault", "gallabox=hang")
    with start_program("sandbox", *options, folder=folder, environment=serving_environment) as sandbox:
        at = sandbox.wait_for(r"sandbox listening on (\S+)")[1]
        given = {**serving_environment, "GALLABOX_BASE_URL": at, "RELAY_SHUTDOWN_GRACE": "1s"}
        with start_serving(folder, given) as (relay, url):
            assert post_event(url, "walletreward_create", COINS).status_code == 202
            sandbox.wait_for("Hi Riya")
            assert relay.stop() == 0  # below: it was given up, and did not end by its own timeout
            assert "Traceback" not in relay.out + relay.err
        with start_serving(folder, given) as (relay, url):
            row = wait_for_state(url, "unknown")
            assert (row["reason"], row["attempts"]) == ("process_died", 1)
            counts = httpx2.get(f"{at}/sandbox/counts", trust_env=False).json()
            assert counts["deliveries"] == {row["id"]: 1}
            assert relay.stop() == 0


def test_a_second_signal_ends_it_at_once(
    folder: Path,
    start_program: Callable[..., Any],
    start_serving: Callable[..., Any],
    serving_environment: dict[str, str],
    post_event: Callable[..., httpx2.Response],
) -> None:
    options = ("--port", "0", "--relay-url", "", "--fault", "gallabox=hang")
    with start_program("sandbox", *options, folder=folder, environment=serving_environment) as sandbox:
        at = sandbox.wait_for(r"sandbox listening on (\S+)")[1]
        with start_serving(folder, {**serving_environment, "GALLABOX_BASE_URL": at}) as (relay, url):
            assert post_event(url, "walletreward_create", COINS).status_code == 202
            sandbox.wait_for("Hi Riya")
            relay.tell(signal.SIGTERM)
            with pytest.raises(Exception, match="timed out"):
                relay.process.wait(1)  # it lets the open send end
            assert relay.stop() == -signal.SIGTERM
            assert relay.err == ""


# -- how it reloads -------------------------------------------------------------------------------


def test_sighup_reads_the_yaml_again_and_a_broken_one_leaves_the_last_good_in_force(
    folder: Path,
    start_serving: Callable[..., Any],
    serving_environment: dict[str, str],
    post_event: Callable[..., httpx2.Response],
) -> None:
    with start_serving(folder, serving_environment) as (relay, url):
        relay.tell(signal.SIGHUP)
        relay.wait_for(r'"config\.reloaded".*"changed": false')
        path = folder / "config/relay.yaml"
        path.write_text(path.read_text() + "\n# another version\n")
        relay.tell(signal.SIGHUP)
        relay.wait_for(r'"config\.reloaded".*"changed": true')
        in_force = httpx2.get(f"{url}/readyz", trust_env=False).json()["config"]
        path.write_text("version: 1\nroutes: {}\n")
        relay.tell(signal.SIGHUP)
        refused = json.loads(relay.wait_for(r'.*"config\.refused".*')[0])
        assert refused["in_force"] == in_force == httpx2.get(f"{url}/readyz", trust_env=False).json()["config"]
        assert refused["detail"][0] == "config/relay.yaml cannot be used:"
        assert post_event(url, "walletreward_create", COINS).json()["status"] == "accepted"
        assert relay.stop() == 0
