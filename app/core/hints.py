"""What an editor is told beside the shape of the YAML: what its words mean, how its texts are written, how to begin.

`defaultSnippets`, `enumDescriptions` and `patternErrorMessage` are the words of VS Code and yaml-language-server:
https://code.visualstudio.com/docs/languages/json#_json-schemas-and-settings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.models import Reason

# By topic, as the developer asks for them; the names on Nector's screens where they are known.
TOPICS: Mapping[str, str] = {
    "walletreward_create": 'Coins were earned. In Nector\'s dashboard: "Wallet Coins Rewarded".',
    "coupon_create": 'A coupon was made. In Nector\'s dashboard: "Coupon Is Created".',
    "coinexpirynotify_create": "Coins are about to expire.",
    "unusedwalletcoinrequest_create": "Coins lie unused.",
    "unusedcouponrequest_create": "A coupon lies unused.",
    "reviewrequest_create": "A review is asked for.",
    "review_create": "A review was written.",
    "review_update": "A review was changed.",
    "referrernotify_create": "A referral is complete: to the customer who invited.",
    "refereenotify_create": "A friend was invited: to the friend.",
    "incompletereferralrequest_create": "A friend was invited, and the referral is not complete yet.",
    "viptier_create": "The VIP tier changed.",
    "wallettrasaction_update": "A transaction of the wallet changed, as Nector's pages spell it.",
    "wallettransaction_update": "The same as wallettrasaction_update.",
    "coupon_update": "A coupon was changed.",
    "order_create": "An order was placed.",
    "order_update": "An order was changed.",
    "lead_create": "A customer was added.",
    "lead_update": "A customer was changed.",
}
# The reasons that an event alone can lead to: no other can be what an example expects.
DEAD: Mapping[str, str] = {
    Reason.VARIABLE_MISSING.value: "The event lacks a property that the message needs.",
    Reason.VARIABLE_INVALID.value: "It is there and cannot be used: not a date, a list, a link too long.",
    Reason.RECIPIENT_MISSING.value: "The event names no mobile number.",
    Reason.RECIPIENT_INVALID.value: "Not one mobile number with exactly one reading.",
    Reason.EXPRESSION_FAILED.value: "An expression cannot be worked out for this event.",
    Reason.DEADLINE_INVALID.value: "`valid_until` is missing or no date.",
}
WORDS: Mapping[str, Mapping[str, str]] = {
    "dead": DEAD,
    "mode": {"live": "Messages are sent.", "shadow": "What would be sent is recorded; nothing is sent."},
    "on_unknown": {
        "hold": "Wait for a receipt or for a person: never twice, perhaps not at all.",
        "resend": "Send it once more by itself: perhaps twice.",
    },
    "webhook_signature": {
        "base64": "As Gallabox documents it.",
        "hex": "As some handlers in use read it.",
        "either": "Take both.",
    },
    "treat_500_as": {
        "retry": "It was surely not sent: try again.",
        "unknown": "It may have been sent: `on_unknown` decides.",
    },
}
"""By key: the words that it may have, and what each means."""

FORMS: Mapping[str, tuple[str, str]] = {
    "valid_for": ("[0-9]{1,9}(ms|s|min|m|h|d)", "Must be a duration such as 90s, 15m, 6h or 7d."),
    "timeout": ("[0-9]{1,9}(ms|s|min|m|h|d)", "Must be a duration such as 90s, 15m, 6h or 7d."),
    "rate": (r"[0-9]{1,6}(\.[0-9]{1,3})?/(s|min|m|h)", "Must be a rate such as 16/s, 1000/min or 100/h."),
    "language": ("[a-z]{2,3}(_[A-Z][A-Za-z]{1,3})?", "Must be a language as at WhatsApp, such as en, hi or en_US."),
    "live_from": (
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2})",
        "Must be an instant with its zone, such as 2026-10-01T00:00:00+05:30.",
    ),
}
"""By key: what its text looks like, and what to say of any other (core.durations and core.fields judge)."""

SECRET = ("", "A secret comes from the environment: ${NAME}.")
NUMBER = (r"\+[1-9][0-9]{7,14}", 'Must be a number with its country code, in quotes: "+919800000001".')

OTHER_FORMS: Mapping[str, Mapping[str, Any]] = {
    "when": {"type": ["string", "boolean"]},  # `when: false` switches a route off
    "message_id": {"type": ["string", "array"]},
    "allow_http": {"type": ["boolean", "string"], "pattern": r"\$\{"},
    "hits": {"default": None},  # `hits: true` is what everybody means; only false is worth writing
}
"""By key: what may stand there beside what its model says, for it is read before it is checked."""

# In a snippet `${1:…}` is where the cursor goes, and `\${` is the text `${`.
_EVENT = {"user_name": "Riya", "user_mobile": '"9800000001"', "amount": 100}
SNIPPETS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "routes": [
        {
            "label": "a new route",
            "description": "One event, one message, and an example that `nector-relay check` runs.",
            "body": {
                "${1:coins-earned}": {
                    "event": "${2:walletreward_create}",
                    "template": "${3:coins_earned}",
                    "variables": ['${4:user_name | default("there")}', "${5:amount | number}"],
                    "examples": [{"event": _EVENT, "sends": {"to": '"+919800000001"'}}],
                }
            },
        }
    ],
    "examples": [
        {
            "label": "an event that is sent",
            "description": "Only the keys under `sends` are compared.",
            "body": {"event": _EVENT, "sends": {"to": '"+919800000001"'}},
        },
        {
            "label": "an event that misses the route",
            "description": "`when` keeps it away.",
            "body": {"event": _EVENT, "hits": False},
        },
        {
            "label": "an event of which nothing can be sent",
            "description": "It reaches nobody, and the relay says why.",
            "body": {"event": {"user_mobile": '"9800000001"'}, "dead": "${1:variable_missing}"},
        },
    ],
}
"""By key: blocks to begin an entry of it with."""
