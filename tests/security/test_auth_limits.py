"""Wrong secrets and tokens: told once with their cure, counted, limited by address. What is right never is."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from starlette.responses import Response
from starlette.types import Scope

from app.api import problem
from app.api.guard import Admission
from app.api.strangers import BURST, CURES, MOST_ADDRESSES, FailureLimit
from app.errors import ConfigError
from app.observe.logs import LINE_MS, LineLimit
from app.settings import read_settings
from tests.conftest import SECRET, TOKEN, sign
from tests.faults.conftest import start_relay  # noqa: F401  # a fixture
from tests.security.strangers import Stranger, find_app

COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
ANOTHER = hashlib.sha256(b"another").hexdigest()
WRONG = {"x-nector-webhook-secret": ANOTHER}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the guard's clock says, for a test to set; named before the relay."""
    told = [1_000_000]
    monkeypatch.setattr("app.main.read_uptime", lambda: told[0])
    return told


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands in for stdout while the relay is made; named before the relay."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def read_refusals(printed: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in printed.getvalue().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "request.refused"]


async def fail(relay: Any, times: int = 1, client: str | None = "192.0.2.1", **headers: str) -> list[int]:
    """Post so often with a wrong secret; return what was answered."""
    given = {**WRONG, **{name.replace("_", "-"): value for name, value in headers.items()}}
    app, peer = find_app(relay), None if client is None else (client, 1)
    return [await Stranger("POST", "/webhooks/nector", given, client=peer).ask(app) for _ in range(times)]


# -- a right secret is never limited -----------------------------------------------------------------


async def mix(relay: Any, wrong: int, every: int) -> tuple[set[int], list[int]]:
    """Fail so often from the address of an honest source, which posts in between; return what both were told."""
    refused: set[int] = set()
    honest: list[int] = []
    for _ in range(wrong // every):
        refused |= set(await fail(relay, every, "127.0.0.1"))
        honest.append((await relay.post(COINS, "lead_update")).status_code)
    return refused, honest


async def test_ten_thousand_wrong_secrets_leave_the_honest_events_of_their_address_alone(relay: Any) -> None:
    refused, honest = await mix(relay, 10_000, 50)
    assert refused == {401, 429}
    assert honest == [202] * 200
    metrics = (await relay.ops("GET", "/metrics")).text
    assert 'nector_relay_requests_refused_total{kind="webhook",reason="other"} 10000.0' in metrics
    assert 'nector_relay_events_total{result="unauthorised",topic="other"} 10000.0' in metrics


async def test_control_a_limit_that_looks_at_the_address_first_shuts_the_honest_out(
    open_relay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(Admission):
        def check(self, scope: Scope) -> Any:
            limited: bool = self._failures.count(scope["client"][0], self._clock())
            answer: Any = problem(429, "too many") if limited else super().check(scope)
            assert isinstance(answer, Response) or answer.kind
            return answer

    monkeypatch.setattr("app.main.Admission", Hasty)
    async with open_relay() as relay:
        _, honest = await mix(relay, 1_000, 50)
    assert 429 in honest


async def test_over_sockets_too_honest_events_come_through_beside_a_flood_of_wrong_ones(
    environment: dict[str, str],
    start_relay: Callable[..., Any],  # noqa: F811  # the fixture
) -> None:
    async with start_relay(environment) as relay, httpx2.AsyncClient(base_url=relay.url, trust_env=False) as client:
        token = {"authorization": f"Bearer {TOKEN}"}
        assert (await client.get("/metrics", headers=token)).status_code == 200  # built now, and not while time refills
        told = []
        for number in range(600):
            wrong = await client.post("/webhooks/nector", content=b"{}", headers={**WRONG, "x-try": str(number)})
            told.append(wrong.status_code)
            if number % 20 == 0:
                body = json.dumps(COINS).encode()
                honest = await client.post("/webhooks/nector", content=body, headers=sign(body, "lead_update"))
                assert honest.status_code == 202
        assert told[: BURST - 1] == [401] * (BURST - 1)
        assert 429 in told
        assert (await client.get("/metrics", headers=token)).status_code == 200
        assert (await client.get("/metrics", headers={"authorization": "Bearer x"})).status_code == 429
        assert await relay.stop() == 0
    assert len(relay.lines("request.refused")) <= 4  # one of each mistake a minute


async def test_a_right_token_is_never_limited_and_a_wrong_one_is(now: list[int], relay: Any) -> None:
    assert now  # the clock stands still
    app = find_app(relay)
    tries = [Stranger("GET", "/metrics", {"authorization": "Bearer guess"}) for _ in range(BURST + 1)]
    assert [await one.ask(app) for one in tries] == [401] * BURST + [429]
    right = Stranger("GET", "/metrics", {"authorization": f"bearer  {TOKEN} "})
    assert await right.ask(app) == 200
    receipt = Stranger("POST", "/webhooks/bitespeed", {}, [b"{}"], "token=sandbox-webhook-token")
    assert await receipt.ask(app) == 200


# -- the limit -----------------------------------------------------------------------------------------


async def test_who_has_failed_too_often_gets_429_until_time_has_passed(now: list[int], relay: Any) -> None:
    assert await fail(relay, BURST) == [401] * BURST
    one = Stranger("POST", "/webhooks/nector", WRONG)
    assert await one.ask(find_app(relay)) == 429
    assert (one.answer["retry-after"], one.answer["connection"]) == ("5", "close")
    assert one.answer["content-type"] == "application/problem+json"
    assert await fail(relay, client="192.0.2.2") == [401]
    now[0] += 2_000
    assert await fail(relay, 3) == [401, 401, 429]


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "other", "are_one"),
    [
        pytest.param("", "192.0.2.1", "198.51.100.1", "198.51.100.2", True, id="nobody is believed"),
        pytest.param("10.0.0.0/8", "10.0.0.1", "198.51.100.1", "198.51.100.2", False, id="a proxy tells them apart"),
        pytest.param("10.0.0.0/8", "10.0.0.1", "198.51.100.9, 198.51.100.1", "x, 198.51.100.1", True, id="no spoofing"),
        pytest.param("10.0.0.0/8", "192.0.2.1", "198.51.100.1", "198.51.100.2", True, id="not the proxy"),
        pytest.param("10.0.0.0/8", "10.0.0.1", "2001:db8:0:1::1", "2001:db8:0:1::2", True, id="one /64"),
        pytest.param("10.0.0.0/8", "10.0.0.1", "2001:db8:0:1::1", "2001:db8:0:2::1", False, id="two of them"),
    ],
)
async def test_failures_are_counted_by_the_address_that_can_be_believed(
    now: list[int],
    open_relay: Callable[..., Any],
    trusted: str,
    peer: str,
    forwarded: str,
    other: str,
    *,
    are_one: bool,
) -> None:
    assert now
    async with open_relay(RELAY_TRUSTED_PROXIES=trusted) as relay:
        await fail(relay, BURST, peer, x_forwarded_for=forwarded)
        assert await fail(relay, 1, peer, x_forwarded_for=forwarded) == [429]
        assert await fail(relay, 1, peer, x_forwarded_for=other) == [429 if are_one else 401]


@pytest.mark.parametrize("given", [{}, {"x_forwarded_for": ""}, {"x_forwarded_for": "unknown"}])
async def test_where_a_proxy_does_not_say_who_asks_nobody_is_limited(
    now: list[int], open_relay: Callable[..., Any], given: dict[str, str]
) -> None:
    assert now
    async with open_relay(RELAY_TRUSTED_PROXIES="10.0.0.0/8") as relay:
        assert set(await fail(relay, BURST + 20, "10.0.0.1", **given)) == {401}
        assert set(await fail(relay, BURST + 20, None)) == {401}


def test_a_million_addresses_take_no_more_memory_than_four_thousand() -> None:
    limit = FailureLimit()
    for number in range(3 * MOST_ADDRESSES):
        assert not limit.count(str(number), 0)
    assert len(limit._left) == MOST_ADDRESSES


def test_a_clock_that_stands_still_or_goes_back_gives_nothing_back() -> None:
    limit = FailureLimit()
    assert [limit.count("a", 5_000) for _ in range(BURST)] == [False] * BURST
    assert limit.count("a", 5_000)
    assert limit.count("a", 1_000)
    assert not limit.count("a", 2_000)
    assert not limit.count("a", 10_000_000)


@pytest.mark.parametrize("wrong", ["10.0.0.0/33", "10.0.0.1/8", "proxy", "10.0.0.0/8,,", "10.0.0.0/8 192.0.2.1"])
def test_a_proxy_that_is_no_network_is_told_with_its_cure(wrong: str) -> None:
    with pytest.raises(
        ConfigError, match=r"RELAY_TRUSTED_PROXIES: .* is no network: write CIDRs such as 10\.0\.0\.0/8"
    ):
        read_settings({"RELAY_TRUSTED_PROXIES": wrong})


# -- what is told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "query", "kind", "reason"),
    [
        ("POST", "/webhooks/nector", {}, "", "webhook", "missing"),
        ("POST", "/webhooks/nector", {"x-nector-webhook-secret": SECRET}, "", "webhook", "plain"),
        ("POST", "/webhooks/nector", WRONG, "", "webhook", "other"),
        ("GET", "/metrics", {}, "", "ops", "missing"),
        ("GET", "/metrics", {"authorization": "Bearer"}, "", "ops", "missing"),
        ("GET", "/metrics", {"authorization": f"Basic {TOKEN}"}, "", "ops", "other"),
        ("GET", "/metrics", {"authorization": f"Bearer {SECRET}"}, "", "ops", "other"),
        ("POST", "/webhooks/gallabox", {}, "", "receipt", "missing"),
        ("POST", "/webhooks/gallabox", {"x-gallabox-signature": "é"}, "", "receipt", "malformed"),
        ("POST", "/webhooks/gallabox", {"x-gallabox-signature": "A" * 43 + "="}, "", "receipt", "other"),
        ("POST", "/webhooks/bitespeed", {}, "", "receipt", "missing"),
        ("POST", "/webhooks/bitespeed", {}, "token=guess", "receipt", "other"),
    ],
)
async def test_a_mistake_is_told_once_a_minute_with_its_cure_and_without_what_was_sent(
    printed: io.StringIO, now: list[int], relay: Any, method: str, path: str, headers: dict[str, str], query: str,
    kind: str, reason: str,
) -> None:  # fmt: skip
    async def repeat(times: int) -> None:
        for _ in range(times):
            assert await Stranger(method, path, headers, [b"{}"], query).ask(find_app(relay)) == 401

    await repeat(5)
    (line,) = read_refusals(printed)
    assert {name: line[name] for name in ("kind", "reason", "address", "untold", "level")} == {
        "kind": kind, "reason": reason, "address": "192.0.2.1", "untold": 0, "level": "warning",
    }  # fmt: skip
    assert line["cure"] == CURES[kind, line["reason"]]
    assert line.get("provider") == (path.rpartition("/")[2] if kind == "receipt" else None)
    now[0] += LINE_MS
    await repeat(2)
    assert [line["untold"] for line in read_refusals(printed)] == [0, 4]
    said = json.dumps(read_refusals(printed))
    assert [secret for secret in (SECRET, TOKEN, ANOTHER, "guess") if secret in said] == []
    metrics = (await relay.ops("GET", "/metrics")).text
    assert f'nector_relay_requests_refused_total{{kind="{kind}",reason="{reason}"}} 7.0' in metrics


async def test_receipts_without_a_secret_in_the_yaml_say_so(
    monkeypatch: pytest.MonkeyPatch, open_relay: Callable[..., Any]
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    async with open_relay(GALLABOX_WEBHOOK_SECRET="", BITESPEED_WEBHOOK_TOKEN="") as relay:
        for path in ("/webhooks/gallabox", "/webhooks/bitespeed"):
            one = Stranger("POST", path, {"x-gallabox-signature": "A" * 43 + "="}, [b"{}"], "token=")
            assert (await one.ask(find_app(relay)), one.asked) == (401, 0)
    told = [(line["reason"], line["provider"]) for line in read_refusals(printed)]
    assert told == [("unset", "gallabox"), ("unset", "bitespeed")]


async def test_every_mistake_is_a_series_before_it_happens(relay: Any) -> None:
    metrics = (await relay.ops("GET", "/metrics")).text
    for kind, reason in (*CURES, ("webhook", "too_long"), ("receipt", "busy"), ("ops", "too_long")):
        assert f'nector_relay_requests_refused_total{{kind="{kind}",reason="{reason}"}} 0.0' in metrics


def test_lines_of_one_kind_do_not_hide_another() -> None:
    limit = LineLimit()
    told = [limit.count(*given) for given in (("a", 0), ("a", 1), ("b", 1), ("a", LINE_MS - 1), ("a", LINE_MS))]
    assert told == [0, None, 0, None, 2]
