"""Nothing of a customer and no secret in what the relay prints, counts, answers or lists, whatever goes wrong."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

NAME, COUPON = "Canaria", "CANARY-7Q2P"
SECRETS = {
    "RELAY_NECTOR_SECRETS": "canary-nector-secret",
    "RELAY_ADMIN_TOKEN": "canary-admin-token",
    "GALLABOX_API_KEY": "canary-key",
    "GALLABOX_API_SECRET": "canary-secret",
    "GALLABOX_WEBHOOK_SECRET": "canary-webhook-secret",
    "BITESPEED_WEBHOOK_TOKEN": "canary-webhook-token",
}
# What a provider may repeat in its refusal: what it was sent, its own keys included.
ECHOES = {
    "gallabox": f"{NAME} +919800000071 {SECRETS['GALLABOX_API_KEY']} {SECRETS['GALLABOX_API_SECRET']}",
    "bitespeed": f"{NAME} +919800000071 {COUPON}",
}


@dataclass
class Seen:
    """Everything that came out of the relay but the messages themselves."""

    texts: list[str] = field(default_factory=list)

    def find_canaries(self) -> set[str]:
        text = "\n".join(self.texts)
        found = {word for word in (NAME, COUPON, *SECRETS.values()) if word.lower() in text.lower()}
        found |= {f"98000000{number}" for number in range(70, 80) if f"98000000{number}" in text}
        return found | {value for value in map(hash_secret, SECRETS.values()) if value in text}


def hash_secret(secret: str) -> str:
    """Return what stands in a header of every request, and lets its reader forge others."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class Watched:
    """A relay whose every answer is kept."""

    url: str
    sandbox_url: str
    seen: Seen

    def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        access = {"authorization": f"Bearer {SECRETS['RELAY_ADMIN_TOKEN']}"}
        return self._keep(
            httpx2.request(method, self.url + path, headers=access, timeout=20, trust_env=False, **options)
        )

    def post(self, topic: str, body: bytes, **changes: str) -> httpx2.Response:
        headers = {
            "content-type": "application/json",
            "x-nector-topic": topic,
            "x-nector-webhook-secret": hash_secret(SECRETS["RELAY_NECTOR_SECRETS"]),
            **changes,
        }
        url = f"{self.url}/webhooks/nector"
        return self._keep(httpx2.post(url, content=body, headers=headers, timeout=20, trust_env=False))

    def set_fault(self, **fault: Any) -> None:
        faults = {
            vendor: {**fault, "body": json.dumps({"error": {"message": echo, "code": 132000}})}
            for vendor, echo in (ECHOES.items() if fault else ())
        }
        assert httpx2.put(f"{self.sandbox_url}/sandbox/faults", json=faults, trust_env=False).is_success

    def _keep(self, answer: httpx2.Response) -> httpx2.Response:
        self.seen.texts += [answer.text, str(answer.headers)]
        return answer


def write_coupon(number: int, **changes: Any) -> bytes:
    payload = {
        "user_name": NAME,
        "user_mobile": f"98000000{number}",
        "value": COUPON,
        "fiat_value": 5,
        "expire": "2099-12-31",
        **changes,
    }
    return json.dumps(payload).encode()


@pytest.fixture
def programs() -> list[Any]:
    """The relay's processes, whose prints are looked through at the end."""
    return []


@pytest.fixture
def watched(
    folder: Path,
    edit: Callable[..., Path],
    start_program: Callable[..., Any],
    start_serving: Callable[..., Any],
    serving_environment: dict[str, str],
    programs: list[Any],
) -> Iterator[Watched]:
    edit("    rate: 16/s", "    timeout: 1s")
    edit("    user_id: ${BITESPEED_USER_ID}", "    user_id: ${BITESPEED_USER_ID}\n    timeout: 1s")
    given = {**serving_environment, **SECRETS, "RELAY_LOG_LEVEL": "debug", "RELAY_NECTOR_HMAC": "log"}
    options = ("--port", "0", "--relay-url", "")
    with start_program("sandbox", *options, folder=folder, environment=given) as sandbox:
        at = sandbox.wait_for(r"sandbox listening on (\S+)")[1]
        given |= {"GALLABOX_BASE_URL": at, "BITESPEED_BASE_URL": f"{at}/bitespeed"}
        with start_serving(folder, given) as (relay, url):
            programs.append(relay)
            yield Watched(url, at, Seen())


BODIES: list[tuple[bytes, dict[str, str]]] = [
    (write_coupon(70)[:-1], {}),
    (write_coupon(70)[:-1] + b', "user_name": "Canaria"}', {}),
    (write_coupon(70, fiat_value=float("nan")), {}),
    (b"[" + write_coupon(70) + b"]", {}),
    (write_coupon(70), {"x-nector-topic": ""}),
    (write_coupon(70), {"content-type": "text/plain"}),
    (write_coupon(70), {"x-nector-webhook-secret": SECRETS["RELAY_NECTOR_SECRETS"]}),
    (write_coupon(70), {"x-nector-webhook-hmac": hash_secret(SECRETS["RELAY_NECTOR_SECRETS"])}),
    (write_coupon(70, padding="x" * 70_000), {}),
    (write_coupon(70, expire=f"{NAME} {COUPON}"), {}),
    (write_coupon(70, user_mobile=f"{NAME} 9800000070 {COUPON}"), {}),
    (write_coupon(70, value=None), {}),
    (write_coupon(70, fiat_value=f"{COUPON} {NAME}"), {}),
    (write_coupon(70, user_name={"first": NAME}), {}),
    (write_coupon(70, value=["CANARY-7Q2P"]), {}),
]
FAULTS: list[dict[str, Any]] = [
    {},
    {"fault": "status", "status": 422},
    {"fault": "status", "status": 500},
    {"fault": "refuse", "status": 400},
    {"fault": "html", "status": 502},
    {"fault": "hang"},
    {"fault": "reset_after"},
    {"fault": "half_answer"},
]


@pytest.mark.timeout(90)
def test_nothing_of_a_customer_and_no_secret_comes_out(watched: Watched, programs: list[Any]) -> None:
    assert {watched.post("coupon_create", body, **changes).status_code for body, changes in BODIES} >= {
        202, 400, 401, 413, 415, 422,
    }  # fmt: skip
    for number, fault in enumerate(FAULTS, 71):
        watched.set_fault(**fault)
        for topic in ("coupon_create", "review_create"):  # the one goes to BiteSpeed, the other to Gallabox
            (delivery,) = watched.post(topic, write_coupon(number)).json()["deliveries"]
            if wait_until_tried(watched, delivery["id"])["state"] != "unknown":
                watched.call("POST", f"/deliveries/{delivery['id']}/retry")
        for hold in watched.call("GET", "/holds").json()["holds"]:
            watched.call("DELETE", f"/holds/{hold['scope']}")
    read_everything(watched)
    texts = httpx2.get(f"{watched.sandbox_url}/sandbox/messages", trust_env=False).text
    assert NAME in texts  # the control: the canaries were there to be seen
    assert COUPON in texts
    assert programs[0].stop() == 0
    assert programs[0].err == ""
    assert '"delivery.attempted"' in programs[0].out
    watched.seen.texts.append(programs[0].out)
    assert watched.seen.find_canaries() == set()


def wait_until_tried(watched: Watched, delivery_id: str) -> dict[str, Any]:
    """Return the delivery at the end of its first attempt."""
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        delivery: dict[str, Any] = watched.call("GET", f"/deliveries/{delivery_id}").json()
        if delivery["attempts"] >= 1 and delivery["state"] != "sending":
            return delivery
        time.sleep(0.02)
    raise AssertionError(delivery)


def read_everything(watched: Watched) -> None:
    page = watched.call("GET", "/deliveries", params={"limit": 500}).json()
    assert {row["state"] for row in page["deliveries"]} >= {"dead", "unknown"}
    for row in page["deliveries"]:
        watched.call("GET", f"/deliveries/{row['id']}")
    for path in ("/metrics", "/holds", "/openapi.json", "/readyz", "/nothing", f"/deliveries/{COUPON}x"[:12]):
        watched.call("GET", path)
    watched.call("POST", "/deliveries/retry", json={"state": "dead"})
    watched.call("PUT", f"/holds/route:{NAME}"[:8])
    body = json.dumps({"event": "x", "data": {"phone": "919800000070", "name": NAME, "text": COUPON}})
    watched.call("POST", "/webhooks/gallabox", content=body)
    watched.call("POST", "/webhooks/bitespeed?token=canary-wrong", content=body)


@pytest.mark.parametrize(
    "text",
    ["Dear canaria!", "919800000079", "code CANARY-7q2p.", "canary-key", hash_secret("canary-nector-secret")],
)
def test_a_canary_would_be_found(text: str) -> None:
    assert len(Seen([f"a line\nwith {text}"]).find_canaries()) == 1
