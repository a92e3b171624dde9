"""What never reaches a handler leaves a line with its cure and a count; a probe of a webhook's URL is answered."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import TOKEN, sign
from tests.security.strangers import Stranger, fill, find_app

SIGNED = {"x-gallabox-signature": "A" * 43 + "="}
PROVED = {**sign(b"", "lead_update"), "content-type": "application/json"}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands in for stdout while the relay is made: a test names it before `relay`."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def read_lines(printed: io.StringIO, event: str = "request.refused") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in printed.getvalue().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def count(relay: Any, kind: str, reason: str) -> float:
    name = f'nector_relay_requests_refused_total{{kind="{kind}",reason="{reason}"}} '
    (line,) = [line for line in (await relay.ops("GET", "/metrics")).text.splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


@pytest.mark.parametrize(
    ("method", "path", "headers", "length", "status", "kind", "reason", "shown"),
    [
        ("POST", "//webhooks/nector", {}, 0, 404, "webhook", "path", "//webhooks/nector"),
        ("POST", "/webhooks//nector", {}, 0, 404, "webhook", "path", "/webhooks//nector"),
        ("POST", "/webhook/nector", PROVED, 0, 404, "webhook", "path", "/webhook/nector"),
        ("POST", "/Webhooks/Nector/", {}, 0, 404, "webhook", "path", "/Webhooks/Nector/"),
        ("POST", "/webhooks/galabox", {}, 0, 404, "receipt", "path", "/webhooks/*******"),
        ("POST", "/webhooks/9800000001", {}, 0, 404, "receipt", "path", "/webhooks/**********"),
        ("POST", "/webhooks/" + "a" * 99, {}, 0, 404, "receipt", "path", "/webhooks/" + "*" * 50),
        ("PUT", "/webhooks/nector", {}, 0, 405, "webhook", "method", None),
        ("DELETE", "/webhooks/gallabox", SIGNED, 0, 405, "receipt", "method", None),
        ("POST", "/webhooks/nector", {**PROVED, "content-type": "text/plain"}, 0, 415, "webhook", "media_type", None),
        ("POST", "/webhooks/nector", {**PROVED, "content-encoding": "gzip"}, 0, 415, "webhook", "media_type", None),
        ("POST", "/webhooks/nector", PROVED, 70_000, 413, "webhook", "too_long", None),
        ("POST", "/webhooks/gallabox", SIGNED, 5_000_000, 413, "receipt", "too_long", None),
    ],
)
async def test_what_reaches_no_handler_is_told_once_a_minute_with_its_cure_and_counted(
    printed: io.StringIO,
    relay: Any,
    method: str,
    path: str,
    headers: dict[str, str],
    length: int,
    status: int,
    kind: str,
    reason: str,
    shown: str | None,
) -> None:
    assert await count(relay, kind, reason) == 0
    for _ in range(3):
        one = Stranger(method, path, headers, fill(length))
        assert await one.ask(find_app(relay)) == status
    assert await count(relay, kind, reason) == 3
    (line,) = read_lines(printed)
    assert (line["kind"], line["reason"], line.get("path")) == (kind, reason, shown)
    assert line["cure"]


@pytest.mark.parametrize("path", ["/", "/nothing", "/wp-login.php", "/hooks/nector"])
async def test_what_looks_like_no_webhook_is_not_told(printed: io.StringIO, relay: Any, path: str) -> None:
    assert await Stranger("POST", path).ask(find_app(relay)) == 404
    assert read_lines(printed) == []


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"content-type": "text/plain"}, "content-type: send application/json"),
        ({"content-encoding": "gzip"}, "content-encoding: send the body uncompressed"),
    ],
)
async def test_nothing_is_read_of_a_wrong_media_type(relay: Any, headers: dict[str, str], detail: str) -> None:
    one = Stranger("POST", "/webhooks/nector", {**PROVED, **headers}, fill(70_000))
    assert (await one.ask(find_app(relay)), one.asked) == (415, 0)
    assert detail in one.body.decode()


async def test_events_that_are_refused_are_told_once_a_minute_for_each_status(printed: io.StringIO, relay: Any) -> None:
    bodies = (b"not JSON", b"not JSON", b"[]", b"{", b"[]")
    answers = []
    for body in bodies:
        headers = {**sign(body, "lead_update"), "content-type": "application/json"}
        answers.append((await relay.client.post("/webhooks/nector", content=body, headers=headers)).status_code)
    assert answers == [400, 400, 422, 400, 422]
    told = read_lines(printed, "event.refused")
    assert [(line["http_status"], line["untold"]) for line in told] == [(400, 0), (422, 0)]
    metrics = (await relay.ops("GET", "/metrics")).text
    assert 'nector_relay_events_total{result="refused",topic="other"} 5.0' in metrics


@pytest.mark.parametrize(
    "path", ["/webhooks/nector", "/webhooks/nector/", "/webhooks/gallabox", "/webhooks/bitespeed/"]
)
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("OPTIONS", 204)])
async def test_a_probe_of_a_webhooks_url_is_answered_and_told_nothing(
    printed: io.StringIO, relay: Any, path: str, method: str, status: int
) -> None:
    one = Stranger(method, path, {}, fill(1_000_000))
    assert (await one.ask(find_app(relay)), one.asked) == (status, 0)
    assert one.answer["allow"] == "GET, HEAD, OPTIONS, POST"
    assert one.body in {b"", b'{"status":"ok"}'}
    assert read_lines(printed) == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/healthz/"])
async def test_health_is_shown_to_who_asks_for_the_head_alone(relay: Any, path: str) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    for method in ("HEAD", "GET"):
        answer = await relay.client.request(method, path, headers=bearer)
        assert answer.status_code == (404 if path.endswith("/") else 200)
    assert (await relay.client.head("/metrics")).status_code == 401


# -- hub.challenge ---------------------------------------------------------------------------------

ASKED = {"hub.mode": "subscribe", "hub.verify_token": "hook+canary/1==", "hub.challenge": "1158201444"}


@pytest.fixture
def verifying(open_relay: Callable[..., Any]) -> Callable[..., Any]:
    """Open a relay whose one account has a `verify_token`."""
    text = """
version: 1
store: {country: IN}
providers:
  meta: {type: http, base_url: "http://127.0.0.1:9", body: {to: $phone}, verify_token: "${META_VERIFY_TOKEN}"}
  plain: {type: http, base_url: "http://127.0.0.1:9", body: {to: $phone}}
routes:
  r: {event: lead_create, provider: meta, template: t}
  s: {event: lead_create, provider: plain, template: t}
"""
    return lambda: open_relay(RELAY_CONFIG_YAML=text, META_VERIFY_TOKEN="hook+canary/1==")


async def test_who_shows_the_verify_token_hears_the_challenge(
    monkeypatch: pytest.MonkeyPatch, verifying: Callable[..., Any]
) -> None:
    monkeypatch.setattr(sys, "stdout", printed := io.StringIO())
    async with verifying() as relay:
        for path in ("/webhooks/meta", "/webhooks/meta/"):
            answer = await relay.client.get(path, params=ASKED)
            assert (answer.status_code, answer.text) == (200, "1158201444")
            assert answer.headers["content-type"].startswith("text/plain")
        pasted = "&".join(f"{name}={value}" for name, value in ASKED.items())
        assert (await relay.client.get(f"/webhooks/meta?{pasted}")).status_code == 200
        assert read_lines(printed) == []


@pytest.mark.parametrize("path", ["/webhooks/meta", "/webhooks/plain"])
async def test_who_does_not_is_refused_and_counted(
    monkeypatch: pytest.MonkeyPatch, verifying: Callable[..., Any], path: str
) -> None:
    monkeypatch.setattr(sys, "stdout", printed := io.StringIO())
    async with verifying() as relay:
        for _ in range(2):
            answer = await relay.client.get(path, params={**ASKED, "hub.verify_token": "canary"})
            assert (answer.status_code, "1158201444" in answer.text) == (403, False)
        assert await count(relay, "receipt", "challenge") == 2
        (line,) = read_lines(printed)
        assert "verify_token" in line["cure"]
        assert "canary" not in printed.getvalue()
        answers = [await relay.client.get(path, params={**ASKED, "hub.mode": "x"}) for _ in range(320)]
        assert answers[-1].status_code == 429
