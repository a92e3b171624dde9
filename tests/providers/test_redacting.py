from __future__ import annotations

import pytest

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Uncertain
from app.model.message import Button, Header, Message, Variable
from app.providers.client import strike_values
from app.providers.trouble import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to +919800000001 failed", "to *** failed"),
        ("to 98000-00001/(98000) 00002", "to ***"),
        ("to +91 98000 00001.", "to ***."),
        ("٩٨٠٠٠٠٠٠٠١", "***"),
        ("mail riya.k@shop.example now", "mail *** now"),
        ("(#131026) in 2026, 100 of 450", "(#131026) in 2026, 100 of 450"),
        ("key abcd-secret!", "key ***!"),
        ("short abc stays", "short abc stays"),
        ("two\r\nlines\x1b[31m\u2028and\ttabs", "two lines [31m and tabs"),
        ("half \ud800 pair", "half \ufffd pair"),
        ("x" * 300, "x" * 200),
    ],
)
def test_what_is_shown_holds_nothing_personal(text: str, shown: str) -> None:
    assert redact(text, ("abcd-secret", "abc")) == shown


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["a" * 65_536, "1 " * 32_768, "@" * 65_536, "a@" * 32_768, "- " * 32_768])
def test_redacting_ends_soon_whatever_the_text(text: str) -> None:
    # An expression that tries all ways through such a text takes minutes: far beyond this.
    redact(text, ("secret",))


MESSAGE = Message(
    recipient="+919800000001",
    template="coupon",
    recipient_name="Riya Sharma",
    language="en",
    variables=(Variable(None, "Riya"), Variable(None, "ACME-7Q2P"), Variable(None, "100"), Variable(None, "482133")),
    header=Header("image", "https://cdn.example/riya.png", None),
    buttons=(Button(0, "r/RIYA22"),),
)


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("no such code ACME-7Q2P", "no such code ***"),
        ("RIYA: acme-7q2p.", "***: ***."),
        ("Riya Sharma, Ms Sharma", "***, Ms ***"),
        ("code 482133 and HTTP 100", "code *** and HTTP 100"),
        ("at https://cdn.example/riya.png", "at ***"),
        ("button r/RIYA22", "button ***"),
        ("Riyadh", "Riyadh"),
        ("x" * 196 + " ACM", "x" * 196 + " ***"),
        ("x" * 197 + " AC", "x" * 197 + " ***"),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_detail_does_not_repeat_the_messages_values(detail: str, shown: str) -> None:
    outcome = Rejected(Reason.PARAMETERS_REFUSED, detail=detail)
    assert strike_values(outcome, MESSAGE) == Rejected(Reason.PARAMETERS_REFUSED, detail=shown)


@pytest.mark.parametrize(
    "outcome", [Accepted("id"), Retryable(Reason.CONNECT_FAILED), Uncertain(Reason.TIMED_OUT, "ReadTimeout")]
)
def test_an_outcome_without_a_value_stays_as_it_is(outcome: Outcome) -> None:
    assert strike_values(outcome, MESSAGE) == outcome


def test_a_message_without_values_strikes_nothing() -> None:
    bare = Message("+919800000001", "coupon", "", None, (), None, ())
    outcome = Rejected(Reason.PARAMETERS_REFUSED, detail="no such code")
    assert strike_values(outcome, bare) == outcome
