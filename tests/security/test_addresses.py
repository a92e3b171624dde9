"""Who may come to which address: the ops API on its own, Nector from its own, and what every answer says."""

from __future__ import annotations

import io
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.api.strangers import BURST
from app.cli.client import open_client
from app.errors import OpsError
from tests.conftest import TOKEN, sign
from tests.outside import describe_account, run_relay
from tests.security.strangers import Stranger, find_app
from tests.security.test_auth_limits import read_refusals

BODY = b'{"user_mobile": "9800000001"}'
BEARER = {"authorization": f"Bearer {TOKEN}"}
APART = ("192.0.2.5", 9090)
PRIVATE = {"referrer-policy": "no-referrer", "cache-control": "no-store"}


# -- the ops API -----------------------------------------------------------------------------------


async def ask(relay: Any, method: str, path: str, server: tuple[str, int], **headers: str) -> int:
    async def come_to(scope: Any, receive: Any, send: Any) -> None:
        await find_app(relay)({**scope, "server": server}, receive, send)

    return await Stranger(method, path, headers, [BODY]).ask(come_to)


@pytest.mark.parametrize("bound", [APART, ("0.0.0.0", 9090), ("::", 9090)])  # noqa: S104  # nothing is bound
async def test_the_ops_api_answers_at_its_own_address_and_at_no_other(
    open_relay: Callable[..., Any], bound: tuple[str, int]
) -> None:
    async with open_relay(RELAY_OPS_BIND="192.0.2.5:9090") as relay:
        find_app(relay).state.admission.ops_at = bound
        public = ("192.0.2.5", 8000)
        described = (
            await httpx2.AsyncClient(transport=httpx2.ASGITransport(find_app(relay)), base_url="http://192.0.2.5:9090")
            .get("/openapi.json", headers=BEARER)
        ).json()["paths"]  # fmt: skip
        paths = [path for path in described if not path.startswith(("/webhooks/", "/healthz", "/readyz"))]
        assert len(paths) > 10
        for path in (*paths, "/openapi.json", "/nothing"):
            for given in ({}, {"authorization": "Bearer wrong"}, BEARER):
                assert await ask(relay, "GET", path, public, **given) == 404, path
        assert await ask(relay, "GET", "/metrics", APART, **BEARER) == 200
        assert await ask(relay, "GET", "/metrics", APART) == 401
        for path in ("/healthz", "/readyz"):
            assert [await ask(relay, "GET", path, server) for server in (public, APART)] == [200, 200]
        signed = sign(BODY, "lead_update")
        assert await ask(relay, "POST", "/webhooks/nector", public, **signed) == 202
        assert await ask(relay, "POST", "/webhooks/nector", APART, **signed) == 404
        assert await ask(relay, "GET", "/webhooks/gallabox", APART) == 404


async def test_control_without_an_address_of_its_own_the_ops_api_is_on_the_public_one(relay: Any) -> None:
    assert await ask(relay, "GET", "/metrics", ("192.0.2.5", 8000), **BEARER) == 200


async def test_before_its_address_is_known_the_ops_api_is_nowhere(open_relay: Callable[..., Any]) -> None:
    async with open_relay(RELAY_OPS_BIND="127.0.0.1:9090") as relay:
        assert await ask(relay, "GET", "/metrics", ("127.0.0.1", 9090), **BEARER) == 404


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    account = describe_account("shop", "http://127.0.0.1:9")
    yaml = f"version: 1\nproviders:\n{account}routes:\n  one: {{event: lead_create, provider: shop, template: one}}\n"
    (tmp_path / "relay.yaml").write_text(yaml)
    return tmp_path


def test_over_sockets_both_addresses_are_of_one_relay_and_end_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_relay(folder, RELAY_OPS_BIND="127.0.0.1:0") as relay:
        (log,) = folder.glob("log-*")
        found = re.search(r'"ops": ?"([^"]+)"', log.read_text())
        assert found is not None
        ops = f"http://{found[1]}"
        (id_,) = relay.post("lead_create", {"user_mobile": "9800000001"})
        assert relay.client.get(f"{ops}/deliveries/{id_}", headers={"authorization": "Bearer outside-token"}).is_success
        for at, path, status in ((relay.url, "/metrics", 404), (ops, "/metrics", 401), (ops, "/healthz", 200)):
            answer = relay.client.get(at + path)
            assert answer.status_code == status
            assert PRIVATE.items() <= dict(answer.headers).items()
            assert not {"server", "x-powered-by"} & set(answer.headers)
        limits = Path(f"/proc/{relay.process.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
        # what is refused by the connection itself, before any application sees it
        answer = relay.client.get(f"{ops}/healthz?{'x' * 9_000}")
        assert (answer.status_code, PRIVATE.items() <= dict(answer.headers).items()) == (414, True)
        monkeypatch.setenv("RELAY_OPS_BIND", found[1])
        monkeypatch.setenv("RELAY_ADMIN_TOKEN", "outside-token")
        monkeypatch.setenv("RELAY_URL", "http://127.0.0.1:8000")  # as in .env.example
        assert open_client().get(f"/deliveries/{id_}")["id"] == id_
        assert relay.end() == 0
        for url in (relay.url, ops):
            with pytest.raises(httpx2.ConnectError):
                httpx2.get(url, trust_env=False)


@pytest.mark.parametrize(
    ("bind", "url", "expected"),
    [
        ("127.0.0.1:9090", "", "http://127.0.0.1:9090"),
        ("0.0.0.0:9090", "", "http://127.0.0.1:9090"),
        ("[::]:9090", "http://127.0.0.1:8000", "http://[::1]:9090"),
        ("127.0.0.1:9090", "https://relay.example/", "https://relay.example"),
        ("", "", "http://127.0.0.1:8000"),
    ],
)
def test_the_commands_find_the_ops_api(monkeypatch: pytest.MonkeyPatch, bind: str, url: str, expected: str) -> None:
    given = {"RELAY_OPS_BIND": bind, "RELAY_URL": url, "RELAY_ADMIN_TOKEN": "t"}
    monkeypatch.setattr("app.cli.client.read_environment", lambda: given)
    assert open_client().url == expected


def test_the_commands_say_how_the_address_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RELAY_OPS_BIND": "9090", "RELAY_ADMIN_TOKEN": "t"}
    monkeypatch.setattr("app.cli.client.read_environment", lambda: given)
    with pytest.raises(OpsError, match="RELAY_OPS_BIND: write HOST:PORT"):
        open_client()


# -- what everybody knows --------------------------------------------------------------------------

OWN = {
    "RELAY_NECTOR_SECRETS": "my-own-nector-secret",
    "RELAY_ADMIN_TOKEN": "my-own-admin-token",
    "GALLABOX_WEBHOOK_SECRET": "my-own-webhook-secret",
    "BITESPEED_WEBHOOK_TOKEN": "my-own-webhook-token",
}


@pytest.mark.parametrize(
    ("changes", "options", "named"),
    [
        ({}, (), ["RELAY_NECTOR_SECRETS", "RELAY_ADMIN_TOKEN", "providers.gallabox", "providers.bitespeed"]),
        ({}, ("--host", "192.0.2.1"), ["RELAY_NECTOR_SECRETS", "RELAY_ADMIN_TOKEN"]),
        ({}, ("--host", "127.0.0.1", "--published-on", "192.0.2.1"), ["RELAY_NECTOR_SECRETS"]),
        ({**OWN, "RELAY_NECTOR_SECRETS": "my-own, sandbox-nector-secret"}, (), ["RELAY_NECTOR_SECRETS"]),
        ({**OWN, "RELAY_ADMIN_TOKEN": "sandbox-admin-token"}, (), ["RELAY_ADMIN_TOKEN"]),
        ({**OWN, "GALLABOX_WEBHOOK_SECRET": "sandbox-webhook-secret"}, (), ["providers.gallabox"]),
        # an address of its own for the ops API, which others can reach
        ({"RELAY_OPS_BIND": "0.0.0.0:0"}, ("--host", "127.0.0.1"), ["RELAY_ADMIN_TOKEN"]),
    ],
)
def test_an_example_secret_is_refused_where_others_can_reach_it_with_the_cure(
    run_serve: Callable[..., tuple[int, str]], changes: dict[str, str], options: tuple[str, ...], named: list[str]
) -> None:
    code, said = run_serve(changes, *options)
    assert code == 78
    assert [name for name in OWN if OWN[name] in said] == []
    listed = said.partition("can reach: ")[2].partition(". Put your own there")[0]
    assert [name for name in named if name not in listed] == []
    assert len(listed.split(", ")) >= len(named)
    assert "--host 127.0.0.1" in said
    assert "--published-on 127.0.0.1" in said


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, ("--host", "127.0.0.1")),
        ({}, ("--host", "::1")),
        ({}, ("--published-on", "127.0.0.1")),  # a container's, as deploy/compose.yaml has it
        (OWN, ()),
        ({**OWN, "RELAY_ADMIN_TOKEN": "sandbox-admin-token", "RELAY_OPS_BIND": "127.0.0.1:0"}, ()),
    ],
)
def test_control_on_this_machine_or_with_secrets_of_ones_own_it_starts(
    run_serve: Callable[..., tuple[int, str]], changes: dict[str, str], options: tuple[str, ...]
) -> None:
    assert run_serve(changes, *options) == (99, "listens")


def test_the_examples_are_those_of_the_example(example_environment: dict[str, str]) -> None:
    from app.settings import EXAMPLES  # noqa: PLC0415

    named = {name: example_environment[name] for name in OWN}
    assert set(named.values()) == EXAMPLES


@pytest.fixture
def run_serve(
    example_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, str]]]:
    """Return what runs `serve` until it would listen (99), in this process."""
    import signal  # noqa: PLC0415

    from app.cli import run_command  # noqa: PLC0415
    from app.cli.serve import RelayServer  # noqa: PLC0415

    before = signal.getsignal(signal.SIGHUP)

    async def stop_here(_server: object, sockets: list[socket.socket]) -> None:
        for each in sockets:
            each.close()
        raise ListensError

    def run(changes: dict[str, str], *options: str) -> tuple[int, str]:
        stderr = io.StringIO()
        given = {
            **example_environment,
            "RELAY_CONFIG": str(Path(__file__).parents[2] / "config/relay.yaml"),
            "RELAY_DATABASE_URL": f"sqlite:///{tmp_path}/relay.db",
            **changes,
        }
        with monkeypatch.context() as patched:
            patched.setattr("app.cli.serve.read_environment", lambda: given)
            patched.setattr("app.cli.serve._listen_to_signals", lambda *_: None)
            patched.setattr("app.cli.serve.open_listener", lambda *_, **__: socket.socket())  # binds nothing
            patched.setattr(RelayServer, "serve", stop_here)
            patched.setattr(sys, "stderr", stderr)
            try:
                return run_command(("serve", "--port", "0", *options)), stderr.getvalue()
            except ListensError:
                return 99, "listens"

    yield run
    signal.signal(signal.SIGHUP, before)


class ListensError(BaseException):
    """It would listen now."""


# -- the addresses of the source -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "forwarded", "status"),
    [
        ("198.51.100.7", {}, 202),
        ("::ffff:198.51.100.7", {}, 202),
        ("2001:db8::9", {}, 202),
        ("203.0.113.9", {}, 403),
        ("203.0.113.9", {"x-forwarded-for": "198.51.100.7"}, 403),  # no proxy of ours: it may say what it likes
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.7"}, 202),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.7, 203.0.113.9"}, 403),
        ("10.0.0.1", {}, 403),  # a proxy that does not say for whom
        (None, {}, 403),
    ],
)
async def test_webhooks_are_taken_from_the_listed_addresses_only(
    open_relay: Callable[..., Any], client: str | None, forwarded: dict[str, str], status: int
) -> None:
    listed = {"RELAY_NECTOR_ADDRESSES": "198.51.100.0/24, 2001:db8::/32", "RELAY_TRUSTED_PROXIES": "10.0.0.0/8"}
    async with open_relay(**listed) as relay:
        headers = {**sign(BODY, "lead_update"), **forwarded}
        one = Stranger("POST", "/webhooks/nector", headers, [BODY], client=(client, 1) if client else None)
        assert await one.ask(find_app(relay)) == status
        assert one.asked == (len(BODY) if status == 202 else 0)
        assert await Stranger("GET", "/webhooks/nector", client=("203.0.113.9", 1)).ask(find_app(relay)) == 200


async def test_who_is_not_listed_is_told_of_with_the_cure_and_limited(
    open_relay: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    async with open_relay(RELAY_NECTOR_ADDRESSES="198.51.100.0/24") as relay:
        app = find_app(relay)
        told = [
            await Stranger("POST", "/webhooks/nector", sign(BODY, "lead_update"), [BODY]).ask(app)
            for _ in range(BURST + 1)
        ]
    assert (told[0], told[-1]) == (403, 429)
    (line,) = read_refusals(printed)
    assert (line["reason"], line["address"]) == ("address", "192.0.2.1")
    assert "RELAY_NECTOR_ADDRESSES" in line["cure"]


async def test_control_without_a_list_every_address_may_post(relay: Any) -> None:
    one = Stranger("POST", "/webhooks/nector", sign(BODY, "lead_update"), [BODY], client=("203.0.113.9", 1))
    assert await one.ask(find_app(relay)) == 202


# -- what every answer says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/webhooks/nector", sign(BODY, "lead_update"), 202),
        ("POST", "/webhooks/nector", {}, 401),
        ("GET", "/webhooks/nector", {}, 200),
        ("OPTIONS", "/webhooks/bitespeed", {}, 204),
        ("POST", "/webhooks/bitespeed", {}, 401),
        ("GET", "/healthz", {}, 200),
        ("GET", "/readyz", {}, 200),
        ("GET", "/metrics", BEARER, 200),
        ("GET", "/deliveries", BEARER, 200),
        ("GET", "/openapi.json", BEARER, 200),
        ("GET", "/deliveries/none", BEARER, 404),
        ("POST", "/replay", BEARER, 422),
        ("DELETE", "/metrics", BEARER, 405),
        ("GET", "/nothing", {}, 404),
    ],
)
async def test_no_answer_is_kept_by_a_cache_or_tells_where_it_was_asked(
    relay: Any, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    one = Stranger(method, path, headers, [BODY])
    assert await one.ask(find_app(relay)) == status
    assert PRIVATE.items() <= one.answer.items()


async def test_a_failure_of_ours_says_so_too(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(relay.outbox, "read", fail)
    one = Stranger("GET", "/deliveries", BEARER)
    with pytest.raises(RuntimeError, match="canary"):  # for the server's log
        await one.ask(find_app(relay))
    assert (one.status, "canary" in one.body.decode()) == (500, False)
    assert PRIVATE.items() <= one.answer.items()
