"""Two versions of the YAML beside each other: only what a customer would notice differs, and no value is shown."""

from __future__ import annotations

from typing import Any

import pytest

from app.delivery.replay import Change, Difference, compare_deliveries, mask_shape
from app.model.delivery import Delivery, Reason, State
from app.model.message import Button, Header, Message, Variable

NUMBER, OTHER = "+919800000001", "+919800000002"
MESSAGE: dict[str, Any] = {
    "recipient": NUMBER,
    "template": "coins",
    "variables": (Variable("name", "Riya"), Variable("coins", "1250")),
}
SENDS = "gallabox sends coins to +91******0001"


def delivery(route: str = "a", provider: str = "gallabox", reason: Reason | None = None, **more: Any) -> Delivery:
    state = more.pop("state", State.PENDING)
    detail = more.pop("detail", "")
    message = None if state is State.DEAD else Message(**{**MESSAGE, **more})
    template = message.template if message else "coins"
    recipient = message.recipient if message else ""
    times: dict[str, Any] = {"created_at": 1, "due_at": 1, "deadline_at": 2}
    return Delivery("d", "e", route, provider, template, recipient, message, state, reason, **times, detail=detail)


DEAD = delivery(state=State.DEAD, reason=Reason.VARIABLE_MISSING, detail="variable 2 (`x`) is missing")


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        ([], [], []),
        ([delivery()], [delivery()], []),
        ([delivery("a")], [delivery("b")], []),
        ([DEAD], [DEAD], []),
        ([DEAD], [], []),
        ([delivery(state=State.SHADOW)], [delivery(state=State.SHADOW, template="other")], []),
        ([], [delivery()], [(Change.NEWLY, "a", "no route hits", "no route hits", SENDS)]),
        (
            [DEAD],
            [delivery()],
            [
                (
                    Change.NEWLY,
                    "a",
                    "dead, variable_missing",
                    "dead, variable_missing (variable 2 (`x`) is missing)",
                    SENDS,
                )
            ],
        ),
        ([delivery(state=State.SHADOW)], [delivery()], [(Change.NEWLY, "a", "shadow", "shadow", SENDS)]),
        ([delivery()], [], [(Change.NO_LONGER, "a", "no route hits", SENDS, "no route hits")]),
        (
            [delivery()],
            [DEAD],
            [
                (
                    Change.NO_LONGER,
                    "a",
                    "dead, variable_missing",
                    SENDS,
                    "dead, variable_missing (variable 2 (`x`) is missing)",
                )
            ],
        ),
        ([delivery()], [delivery(provider="bitespeed")], [(Change.PROVIDER, "a", "", "gallabox", "bitespeed")]),
        ([delivery()], [delivery(template="other")], [(Change.TEMPLATE, "a", "", "coins", "other")]),
        (
            [delivery()],
            [delivery(template="other", recipient=OTHER)],
            [
                (Change.TEMPLATE, "a", "", "coins", "other"),
                (Change.NUMBER, "a", "", "+91******0001", "+91******0002"),
            ],
        ),
        (
            [delivery()],
            [delivery(variables=(Variable("name", "Riya"), Variable("coins", "1,250")))],
            [(Change.CONTENT, "a", "variable coins", "variable coins: 1***", "variable coins: 1,***")],
        ),
        (
            [delivery(variables=(Variable(None, "Riya"),))],
            [delivery(variables=(Variable(None, "Asha"), Variable(None, "5")), language="hi")],
            [
                (
                    Change.CONTENT,
                    "a",
                    "variable 1, language, variable 2",
                    "variable 1: R***, language: none, variable 2: none",
                    "variable 1: A***, language: hi, variable 2: 5",
                )
            ],
        ),
        (
            [delivery(header=Header("document", "https://a.example/x.pdf", "bill.pdf"), buttons=(Button(0, "x-1"),))],
            [delivery(buttons=(Button(0, "x-2"),), offer_ends_at=0)],
            [
                (
                    Change.CONTENT,
                    "a",
                    "document header, button 0, end of the offer",
                    "document header: h****://*.*******/*.*** ****.***, button 0: x-*, end of the offer: none",
                    "document header: none, button 0: x-*, end of the offer: 1***-**-*****:**:**.****",
                )
            ],
        ),
    ],
)
def test_what_a_customer_would_notice_is_a_difference(
    before: list[Delivery], after: list[Delivery], differences: list[tuple[Any, ...]]
) -> None:
    assert list(compare_deliveries(before, after)) == [Difference(*each) for each in differences]


@pytest.mark.parametrize(
    ("value", "masked"),
    [("", ""), ("1250", "1***"), ("1,250", "1,***"), ("31 Dec", "3* ***"), ("x" * 100, "x" + "*" * 58 + "…")],
)
def test_a_masked_value_keeps_its_shape_and_no_more(value: str, masked: str) -> None:
    assert mask_shape(value) == masked
