"""From a provider's answer to the hold it sets: WhatsApp's codes and the statuses, through every type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.delivery.decide import Decision, decide
from app.model.delivery import State
from app.providers.base import Provider, Response
from app.providers.trouble import META_CODES

NOW = 1_790_000_000_000
ACCOUNT, TEMPLATE, NONE = "provider:shop", "template:shop/coins_earned", None

CODES: dict[str | None, tuple[int, ...]] = {
    ACCOUNT: (
        *(
            0,
            3,
            10,
            190,
            *range(200, 300),
            368,
            130497,
            131005,
            131031,
            131042,
            131045,
            131048,
            131064,
        ),  # key, money, ban
        *(33, 131037, 133000, 133005, 133006, 133007, 133008, 133009, 133010, 133015, 134011),  # the number
    ),
    TEMPLATE: (131055, 131063, 132000, 132001, 132007, 132015, 132016, 132068, 134100, 134101, 134102),
    NONE: (
        *(2, 4, 17, 613, 80007, 80008, 130429, 131056, 132069, 133016),  # later
        *(131000, 131016, 131057, 133004, 135000),
        *(
            1,
            100,
            131001,
            131002,
            131008,
            131009,
            131021,
            131051,
            131052,
            131053,
            132005,
            132008,
            132012,
            132018,
        ),  # this message
        *(130472, 131026, 131030, 131047, 131049, 131050, 131062),  # this recipient
    ),
}


def decide_on(provider: Provider, status: int, body: Any) -> Decision:
    outcome = provider.read_response(Response(status, {}, json.dumps(body).encode()))
    return decide(
        outcome,
        attempt_number=1,
        now=NOW,
        deadline_at=NOW + 86_400_000,
        on_unknown="hold",
        provider="shop",
        template="coins_earned",
        random=lambda: 0.0,
    )


def tell_like_meta(code: int) -> Any:
    return {"error": {"message": "no", "type": "OAuthException", "code": code, "fbtrace_id": "x"}}


def tell_wrapped(code: int) -> Any:
    return {"success": False, "data": {"error": {"code": code, "message": "no", "error_data": {"details": "no"}}}}


def tell_in_words(code: int) -> Any:
    return {"success": False, "message": f"(#{code}) no"}


@pytest.mark.parametrize("tell", [tell_like_meta, tell_wrapped, tell_in_words])
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("scope", [ACCOUNT, TEMPLATE, NONE])
def test_a_code_of_whatsapp_holds_what_it_speaks_of(
    provider: Provider, scope: str | None, status: int, tell: Any
) -> None:
    # In words, only WhatsApp's own long numbers can be told from any other.
    codes = [code for code in CODES[scope] if tell is not tell_in_words or code > 999]
    assert {code: decide_on(provider, status, tell(code)).hold_scope for code in codes} == dict.fromkeys(codes, scope)


def test_every_code_that_is_known_is_in_the_table() -> None:
    assert sorted(code for codes in CODES.values() for code in codes) == sorted(META_CODES)


@pytest.mark.parametrize(
    ("status", "body", "scope"),
    [
        (401, {"message": "Unauthorized"}, ACCOUNT),
        (403, {"message": "Forbidden"}, ACCOUNT),
        (402, {}, ACCOUNT),
        (307, {}, ACCOUNT),
        (400, {"message": "Insufficient wallet balance"}, ACCOUNT),
        (200, {"success": False, "error": "Your credits are exhausted"}, ACCOUNT),
        (403, {"message": "zero balance"}, ACCOUNT),
        (404, {"message": "template coins_earned not found"}, TEMPLATE),
        (400, {"message": "Template is not approved"}, TEMPLATE),
        (404, {"message": "Channel not found"}, ACCOUNT),
        (422, {"message": "bodyValues.balance is required"}, NONE),
        (429, {}, NONE),
        (503, {}, NONE),
        (500, {}, NONE),
        (502, {}, NONE),
    ],
)
def test_a_status_or_a_vendors_words_hold_what_they_speak_of(
    provider: Provider, status: int, body: Any, scope: str | None
) -> None:
    decision = decide_on(provider, status, body)
    assert decision.hold_scope == scope
    if scope is not None:
        assert (decision.state, decision.attempt_spent) == (State.PENDING, False), "held, and nothing spent"
