"""The YAML of the simulated shop, in versions that are loaded in turn, and the events that its customers cause."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

from app.mapping.parse import parse_config
from app.mapping.template import Template
from app.providers import PROVIDER_TYPES, settings_types
from app.relay import Snapshot
from app.relay.reload import build_snapshot
from app.settings import Settings, read_settings

SECRETS = {"KEY": "key-of-the-simulation", "WEBHOOK": "webhook-of-the-simulation"}
VERSIONS = 3
CUSTOMERS = 24
HOUR_MS = 3_600_000

# A version changes the words of every message, and the second also an account, so that its lane is replaced.
_YAML = """
version: 1
limits: {{person: 6/d}}
store: {{country: IN, timezone: Asia/Kolkata, locale: en_IN}}
providers:
  main:
    type: gallabox
    channel_id: simulated
    api_key: ${{KEY}}
    api_secret: ${{KEY}}
    webhook_secret: ${{WEBHOOK}}
    base_url: https://gallabox.example
    rate: 2/s
    concurrency: {concurrency}
  second:
    type: bitespeed
    base_url: https://bitespeed.example
    channel_id: ${{KEY}}
    user_id: ${{KEY}}
    webhook_token: ${{WEBHOOK}}
    rate: 1/s
    concurrency: 3
    timeout: {timeout}
routes:
  coins:
    event: walletreward_create
    provider: main
    template: coins
    variables: [user_name, amount, {{text: version {version}}}]
    on_unknown: resend
    valid_for: 6h
    priority: 10
  big-coins:
    event: walletreward_create
    when: amount | float > 900
    provider: second
    template: big_coins
    variables: [user_name, {{text: version {version}}}]
    valid_for: 3h
  coupon:
    event: coupon_create
    provider: second
    template: coupon
    variables: [user_name, value, {{text: version {version}}}]
    valid_until: expire
    dedup_by: value
    on_unknown: resend
  expiry:
    event: coinexpirynotify_create
    provider: main
    template: expiry
    variables: [user_name, {{text: version {version}}}]
    valid_until: expire
    valid_for: 12h
  review:
    event: reviewrequest_create
    provider: main
    template: review
    variables: [user_name, {{text: version {version}}}]
    valid_for: 40m
    priority: -5
"""
TEMPLATES = ("coins", "big_coins", "coupon", "expiry", "review")
# The one that is no marketing: who has opted out gets it all the same.
REVIEW = Template("main", "review", "{{1}} {{2}}", ("1", "2"), category="UTILITY")
ROUTES = ("coins", "big-coins", "coupon", "expiry", "review")
_TOPICS = ("walletreward_create", "coupon_create", "coinexpirynotify_create", "reviewrequest_create", "order_create")
_TOPIC_WEIGHTS = (6, 4, 4, 3, 0.5)


@cache
def load_rules(version: int) -> Snapshot:
    """Return a version of the rules as they are put in force."""
    text = _YAML.format(version=version, concurrency=(4, 2, 4)[version], timeout=("10s", "10s", "4s")[version])
    parsed = parse_config(
        text,
        environment=SECRETS,
        provider_types=settings_types(),
        templates={("main", "review"): REVIEW},
    )
    assert parsed.config is not None, parsed.problems
    return build_snapshot(parsed.config, PROVIDER_TYPES)


@cache
def load_settings(settle_ms: int, payloads_ms: int, records_ms: int) -> Settings:
    """Return the settings of the simulated relay."""
    given = read_settings({"RELAY_NECTOR_SECRETS": "simulated", "RELAY_NECTOR_HMAC": "off"})
    waits = {"settle_after": settle_ms, "payload_retention": payloads_ms, "record_retention": records_ms}
    return given.model_copy(update=waits)


@dataclass(frozen=True, slots=True)
class Webhook:
    """One event as Nector posts it, again and again with the same delivery id. `at_s`: virtual time of the first."""

    at_s: float
    topic: str
    delivery_id: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Return what Nector sends beside the body."""
        return {"x-nector-topic": self.topic, "x-nector-delivery-id": self.delivery_id}


def draw_webhooks(random: Random, days: float, base_ms: int) -> list[Webhook]:
    """Return 60-120 events: some alone, most in bursts, in the order of their time."""
    wanted = random.randint(60, 120)
    webhooks: list[Webhook] = []
    while len(webhooks) < wanted:
        at_s = random.uniform(0, days * 86_400)
        spread_s = random.choice((1, 20, 600))
        for _ in range(random.choice((1, 1, 4, 12, 25))):
            webhooks.append(_draw_webhook(random, at_s + random.uniform(0, spread_s), len(webhooks), base_ms))
    return sorted(webhooks, key=lambda webhook: webhook.at_s)


def _draw_webhook(random: Random, at_s: float, number: int, base_ms: int) -> Webhook:
    topic = random.choices(_TOPICS, _TOPIC_WEIGHTS)[0]
    now = base_ms + int(at_s * 1000)
    expires_at = now + random.choice((-HOUR_MS, 300_000, HOUR_MS, 9 * HOUR_MS)) + random.randrange(60_000)
    payload: dict[str, Any] = {
        "user_name": f"Customer {number}",
        "user_mobile": f"98000000{random.randrange(CUSTOMERS):02}",
        "amount": random.choice((50, 500, 1000)),
        "value": f"CODE-{random.randrange(4)}",
        "expire": datetime.fromtimestamp(expires_at // 1000, UTC).isoformat(),
    }
    if random.random() < 0.04:  # what cannot be sent is taken, too
        payload[random.choice(("user_name", "user_mobile"))] = random.choice(("", "12"))
    return Webhook(at_s, topic, f"nector-{number}", json.dumps(payload).encode())
