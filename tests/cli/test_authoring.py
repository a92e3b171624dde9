"""A new user's way from the README to a message: a route of their own, its mistakes, preview, CI, the sandbox."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

TEMPLATE = """\
    order_thanks:
      language: en
      category: UTILITY
      variables: [name, product, coins]
      body: "Hi {{name}}, thank you for the {{product}}. It brings you {{coins}} coins."
      buttons:
        - {url: "https://acme.example/orders/{{1}}", text: My order}
"""
ROUTE = """
  order-thanks:
    event: order_create
    when: amount | float > 0
    template: order_thanks
    variables:
      - user_name | default("there")
      - product_name
      - amount | number
    buttons:
      - index: 0
        url: order_id
    valid_for: 2d
    examples:
      - event: {user_name: Riya, user_mobile: "9800000001", product_name: Blue Mug, amount: "1250", order_id: 1042}
        sends:
          to: "+919800000001"
          variables: [Riya, Blue Mug, "1,250"]
          text: "Hi Riya, thank you for the Blue Mug. It brings you 1,250 coins."
      - event: {user_name: Riya, user_mobile: "9800000001", product_name: Gift, amount: 0, order_id: 1043}
        hits: false
"""
PREVIEWED = """\
╭─
│ Hi Riya, thank you for the Blue Mug. It brings
│ you 1,250 coins.
│ [ My order → https://acme.example/orders/1042 ]
╰─
"""
# (what is typed wrongly: before, after; line of ROUTE and column; what check says first, with the cure)
MISTAKES = [
    ("order_create", "order_created", (3, 12), 'is not in Nector\'s list of topics; did you mean "order_create"?'),
    ("template:", "temlate:", (5, 5), 'unknown key "temlate" in route "order-thanks"; did you mean "template"?'),
    (": order_thanks", ": order_thank", (5, 15), 'is not in templates.yaml for provider "gallabox"; did you mean'),
    ("      - product_name\n", "", (7, 7), 'wants {name, product, coins}; the route gives 2, so "coins" is missing'),
    ("- product_name", '- "{{product_name}}"', (8, 9), "{{ }} and {% %} do not belong here; write the expression"),
    ("- product_name", "- Blue Mug", (8, 9), "`Blue Mug` is not the name of a property; a fixed text is written"),
    ("- product_name", "- product-name", (8, 9), "`product-name` would be product minus name; a minus has blanks"),
    ("- amount | number", "- amount | nubmer", (9, 9), "there is no filter `nubmer`; did you mean `number`?"),
    ("amount | float > 0", "amount = 0", (4, 11), "the expression should end before `=`; compare with =="),
    ("amount | float > 0", "amount > 0", (4, 11), "is compared with a number; write amount | float"),
    ("amount | float > 0", "amount == 1250", (4, 11), "is compared with a number; write amount | float"),
    ("    event: order", "\tevent: order", (3, 1), "a tab cannot indent YAML; use spaces"),
    ("    event: order", "   event: order", (4, 5), "this line is indented otherwise than line"),
    ("    valid_for: 2d", "    valid_for: 48", (13, 16), '"valid_for" must be a text; add the unit: 24h, 7d'),
    (
        "    buttons:\n      - index: 0\n        url: order_id\n",
        "",
        (5, 15),
        "has a variable URL in button 0, and the ro",
    ),
    ('Riya, user_mobile: "9800000001", product_name: B', "Riya, product_name: B", (15, 9), "names no mobile number"),
    ("thank you for the B", "thanks for the B", (15, 9), "Hi Riya, [-thanks-]{+thank you+} for the Blue Mug."),
    ("2d\n", "2d\n    valid_until: ends_on\n", (14, 18), '"ends_on" is not a property known from Nector: without it'),
    ("2d\n", "2d\n    only: [+919800000001]\n", (14, 12), '"only" item 1 must be a text; put it in quotes'),
    (
        "2d\n",
        '2d\n    recipient: "9800000001"\n',
        (14, 16),
        "every message would go to one and the same number; name a",
    ),
]


@pytest.fixture
def author(folder: Path, serving_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user who has copied the template's text, and has an environment."""
    for name, value in serving_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CI", raising=False)
    templates = folder / "config/templates.yaml"
    templates.write_text(templates.read_text().replace("  gallabox:\n", f"  gallabox:\n{TEMPLATE}", 1))
    return folder


def write_route(folder: Path, route: str) -> int:
    """Append the route to the bundled file, and return the line before it."""
    path = folder / "config/relay.yaml"
    bundled = path.read_text().partition("\n  order-thanks:")[0].rstrip("\n") + "\n"
    path.write_text(bundled + route)
    return bundled.count("\n")


def test_each_typical_mistake_is_stopped_at_its_line_with_the_cure(author: Path, run: Callable[..., Any]) -> None:
    for before, after, (line, column), told in MISTAKES:
        assert ROUTE.count(before) >= 1, before
        above = write_route(author, ROUTE.replace(before, after, 1))
        done = run("check", "--strict")
        first = done.out.splitlines()[0]
        assert done.code == 1, after
        assert first.startswith(f"config/relay.yaml:{above + line}:{column}: "), (after, done.out)
        assert told in first, (after, done.out)
        assert done.out.count(": error: ") <= 2, done.out
    write_route(author, ROUTE)
    assert (run("check", "--strict").code, len(MISTAKES)) == (0, 20)


def test_a_new_route_goes_from_the_editor_through_ci_to_the_sandbox(
    author: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    start_program: Callable[..., Any],
    start_serving: Callable[..., Any],
    serving_environment: dict[str, str],
    post_event: Callable[..., Any],
) -> None:
    write_route(author, ROUTE)
    checked = run("check", "--strict")
    assert (checked.code, checked.out.endswith(" right, 0 errors, 0 warnings\n")) == (0, True)

    payload = {"user_name": "Riya", "user_mobile": "9800000001", "product_name": "Blue Mug", "amount": "1250"}
    payload["order_id"] = "1042"
    (author / "event.json").write_text(json.dumps(payload))
    hit = 'HIT   order-thanks: gallabox sends order_thanks  when amount | float > 0  (amount = "1250")'
    assert run("route", "event.json", "--topic", "order_create").out.splitlines()[0] == hit
    previewed = run("preview", "order-thanks", "--event", "event.json")
    assert (previewed.code, PREVIEWED in previewed.out) == (0, True)

    # The golden files are written once and committed; CI compares.
    assert run("preview", "--golden", "config/messages").code == 0
    monkeypatch.setenv("CI", "1")
    assert PREVIEWED in (author / "config/messages/order-thanks.txt").read_text()
    assert run("preview", "--golden", "config/messages").code == 0
    assert run("check", "--strict", "--format", "github").out.count("::") == 0
    other = ROUTE.replace("for the Blue Mug", "for this Blue Mug")
    templates = author / "config/templates.yaml"
    kept = templates.read_text()
    templates.write_text(kept.replace("for the {{product}}", "for this {{product}}"))
    write_route(author, other)
    changed = run("preview", "--golden", "config/messages")
    assert (changed.code, "+│ Hi Riya, thank you for this Blue Mug" in changed.out) == (1, True)
    templates.write_text(kept)
    write_route(author, ROUTE)

    with start_program("sandbox", "--port", "0", folder=author, environment=serving_environment) as sandbox:
        at = sandbox.wait_for(r"sandbox listening on (\S+)")[1]
        given = {**serving_environment, "GALLABOX_BASE_URL": at, "BITESPEED_BASE_URL": f"{at}/bitespeed"}
        with start_serving(author, given) as (_, url):
            answer = post_event(url, "order_create", payload)
            assert (answer.status_code, [one["route"] for one in answer.json()["deliveries"]]) == (
                202,
                ["order-thanks"],
            )
            (message,) = wait_for_messages(at)
    assert f"{message['text']}\n" == PREVIEWED


def wait_for_messages(sandbox_url: str) -> list[dict[str, Any]]:
    ends_at = time.monotonic() + 20
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < ends_at:
        found = httpx2.get(f"{sandbox_url}/sandbox/messages", timeout=20, trust_env=False).json()["messages"]
        time.sleep(0.05)
    return found
