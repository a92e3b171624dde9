from __future__ import annotations

from collections.abc import Collection

import pytest

from app.cli.check import find_drift
from app.mapping import format_problem
from app.mapping.template import Templates
from app.mapping.template_entries import parse_templates
from app.relay.reload import merge_live

KEPT = """version: 1
templates:
  gallabox:
    coins_earned:
      variables: [name]
      body: "Hi {{name}}"
    coupon_ready:
      variables: [code]
      body: "Yours: {{code}}"
  bitespeed:
    t:
      variables: ["1"]
      body: "Hi {{1}}"
"""
READY, ABROAD = ("gallabox", "coupon_ready"), ("bitespeed", "t")


def read(text: str) -> Templates:
    parsed = parse_templates(text)
    assert parsed.problems == ()
    return parsed.templates


@pytest.mark.parametrize(
    ("live", "listed", "warnings"),
    [
        (KEPT, ["gallabox", "bitespeed"], []),
        (KEPT.replace("Yours", "Take"), ["bitespeed"], []),
        (
            KEPT.replace("Yours", "Take"),
            ["gallabox"],
            ['x:7:5: warning: template "coupon_ready" has changed at provider "gallabox": body'],
        ),
        (
            KEPT.replace("coins_earned", "coins_won"),
            ["gallabox", "bitespeed"],
            ['x:4:5: warning: template "coins_earned" is not at provider "gallabox" any more'],
        ),
    ],
)
def test_a_listed_template_that_is_no_longer_as_it_was_is_a_warning(
    live: str, listed: Collection[str], warnings: list[str]
) -> None:
    cure = "; run `nector-relay templates pull` and look at the diff"
    found = [format_problem("x", problem) for problem in find_drift(parse_templates(KEPT), read(live), listed)]
    assert found == [warning + cure for warning in warnings]


def test_a_provider_that_was_listed_is_as_it_listed_and_the_others_are_as_the_file_says() -> None:
    live = {READY: read(KEPT.replace("Yours", "Take"))[READY]}
    kept = read(KEPT)
    assert merge_live(kept, live, ["gallabox"]) == {READY: live[READY], ABROAD: kept[ABROAD]}
