from __future__ import annotations

from pathlib import Path

import pytest

from app.authoring.examples import ExampleResult, run_examples
from app.mapping.parse import parse_config
from app.mapping.template_entries import parse_templates
from app.providers import settings_types

ROOT = Path(__file__).parents[2]
NOW = 1_790_000_000_000

TEMPLATES = """version: 1
templates:
  gallabox:
    coins: {variables: [name, coins], body: "Hi {{name}}, {{coins}} coins."}
    picture: {header: {image: true}, body: "Look.", buttons: [{url: "https://a.example/{{1}}", text: Go}]}
"""
CONFIG = """version: 1
providers:
  gallabox: {type: gallabox, channel_id: c, api_key: "${KEY}", api_secret: "${KEY}"}
  bitespeed: {type: bitespeed, base_url: https://b.example, channel_id: c, user_id: u, accepted: {}}
routes:
  coins:
    event: walletreward_create
    when: amount | float > 0
    provider: gallabox
    template: coins
    language: en
    variables: [user_name | default("there"), amount]
    valid_until: until | default("2027-01-01")
    dedup_by: batch | default(1)
    examples:
      - EXAMPLE
  picture:
    event: lead_create
    provider: gallabox
    template: picture
    header: {image: photo}
    buttons: [{index: 0, url: code}]
    examples:
      - event: {user_mobile: "9800000001", photo: "https://cdn.example/a.png", code: A1}
        sends: {header: "https://cdn.example/a.png", buttons: [A1], text: Look.}
  unknown:
    event: lead_create
    provider: bitespeed
    template: unknown
    variables: [code]
    examples:
      - event: {user_mobile: "9800000001", code: A1}
        sends: {variables: {"1": A1}}
"""


def run(example: str, text: str = CONFIG) -> list[ExampleResult]:
    templates = parse_templates(TEMPLATES)
    parsed = parse_config(
        text.replace("EXAMPLE", example),
        environment={"KEY": "example"},
        provider_types=settings_types(),
        templates=templates.templates,
    )
    assert parsed.config is not None, parsed.problems
    return list(run_examples(parsed.config, templates.templates, NOW))


RIYA = 'event: {user_name: Riya, user_mobile: "9800000001", amount: 100}'


@pytest.mark.parametrize(
    "example",
    [
        f"{{{RIYA}}}",
        f"{{{RIYA}, sends: {{}}}}",
        f'{{{RIYA}, sends: {{to: "+919800000001", provider: gallabox, template: coins, language: en}}}}',
        f"{{{RIYA}, sends: {{variables: [Riya, 100]}}}}",
        f'{{{RIYA}, sends: {{variables: ["Riya", "100"]}}}}',
        f"{{{RIYA}, sends: {{variables: {{coins: 100}}}}}}",
        f'{{{RIYA}, sends: {{text: "Hi Riya, 100 coins.", header: "", buttons: []}}}}',
        "{event: {amount: 0}, hits: false}",
        "{event: {}, hits: false}",
        "{event: {amount: 100}, dead: recipient_missing}",
        '{event: {amount: 1, user_mobile: "98"}, dead: recipient_invalid}',
        '{event: {amount: 1, user_mobile: "9800000001", until: soon}, dead: deadline_invalid}',
        '{event: {amount: 1, user_mobile: "9800000001", until: "2001-01-01"}}',
    ],
)
def test_an_example_that_comes_to_what_it_says_has_no_problem(example: str) -> None:
    assert [result.problems for result in run(example)] == [(), (), ()]


@pytest.mark.parametrize(
    ("example", "told"),
    [
        (f'{{{RIYA}, sends: {{to: "+919800000002"}}}}', ['"to" should be "+919800000002", and is "+919800000001"']),
        (f"{{{RIYA}, sends: {{provider: x}}}}", ['"provider" should be "x", and is "gallabox"']),
        (f"{{{RIYA}, sends: {{template: x}}}}", ['"template" should be "x", and is "coins"']),
        (f"{{{RIYA}, sends: {{language: hi}}}}", ['"language" should be "hi", and is "en"']),
        (f"{{{RIYA}, sends: {{header: x}}}}", ['"header" should be "x", and is ""']),
        (f"{{{RIYA}, sends: {{buttons: [x]}}}}", ['"buttons" should be ["x"], and is []']),
        (
            f"{{{RIYA}, sends: {{text: Hello}}}}",
            ['"text" differs, [-expected-] {+got+}: [-Hello-]{+Hi Riya, 100 coins.+}'],
        ),
        (
            f'{{{RIYA}, sends: {{text: "Hi Riya, 200 coins."}}}}',
            ['"text" differs, [-expected-] {+got+}: Hi Riya, [-200-]{+100+} coins.'],
        ),
        (
            f'{{{RIYA}, sends: {{text: "Hi Riya,\\n100 coins. Bye"}}}}',
            ['"text" differs, [-expected-] {+got+}: Hi Riya,[-\\n-]{+ +}100 coins.[- Bye-]'],
        ),
        (
            f"{{{RIYA}, sends: {{variables: [Kabir, 100]}}}}",
            ['"variables" should be ["Kabir", "100"], and are ["Riya", "100"]'],
        ),
        (f"{{{RIYA}, sends: {{variables: [Riya]}}}}", ['"variables" should be ["Riya"], and are ["Riya", "100"]']),
        (
            f"{{{RIYA}, sends: {{variables: {{coins: 1.50, x: 1}}}}}}",
            [
                'variable "coins" should be "1.50", and is "100"',
                'variable "x" should be "1", and is not among ["name", "coins"]',
            ],
        ),
        (f"{{{RIYA}, hits: false}}", ["expected not to hit the route, but it does"]),
        (f"{{{RIYA}, dead: duplicate}}", ["expected dead with duplicate, got a message"]),
        ("{event: {amount: 5}, hits: false}", ["expected not to hit the route, but it does"]),
        (
            "{event: {amount: 5}, dead: variable_missing}",
            ["expected dead with variable_missing, got dead with recipient_missing: the event names no mobile number"],
        ),
        (
            "{event: {amount: 5}}",
            ["expected a message, got dead with recipient_missing: the event names no mobile number"],
        ),
        ("{event: {amount: 0}}", ["expected to hit the route, but `when: amount | float > 0` is false (amount = 0)"]),
        ("{event: {}, sends: {}}", ["expected to hit the route, but `when` is false, since `amount` is missing"]),
    ],
)
def test_an_example_that_comes_to_something_else_says_what_at_its_place(example: str, told: list[str]) -> None:
    result, *others = run(example)
    assert [problem.message for problem in result.problems] == [f'example 1 of route "coins": {text}' for text in told]
    assert {(problem.severity, problem.line, problem.column) for problem in result.problems} == {("error", 16, 9)}
    assert [other.problems for other in others] == [(), ()]


def test_a_condition_that_cannot_be_worked_out_is_told() -> None:
    result, *_ = run(f"{{{RIYA}}}", CONFIG.replace("amount | float > 0", "amount > user_name"))
    (problem,) = result.problems
    assert "`when` cannot be worked out" in problem.message


def test_a_text_cannot_be_compared_without_the_template() -> None:
    *_, result = run(f"{{{RIYA}}}", CONFIG.replace('sends: {variables: {"1": A1}}', "sends: {text: A1}"))
    assert [problem.message for problem in result.problems] == [
        'example 1 of route "unknown": "text" cannot be compared: template "unknown" is not in templates.yaml'
    ]


def test_a_result_names_its_example_and_carries_its_message() -> None:
    result, *_ = run(f"{{{RIYA}}}")
    assert (result.route, result.number) == ("coins", 1)
    assert result.message is not None
    assert result.message.recipient == "+919800000001"
    missed, *_ = run("{event: {}, hits: false}")
    assert missed.message is None


def test_every_example_of_the_bundled_file_is_right_on_any_day() -> None:
    templates = parse_templates((ROOT / "config" / "templates.yaml").read_text(encoding="utf-8"))
    parsed = parse_config(
        (ROOT / "config" / "relay.yaml").read_text(encoding="utf-8"),
        environment={},
        provider_types=settings_types(),
        templates=templates.templates,
    )
    assert parsed.config is not None
    for now in (NOW, NOW + 20 * 365 * 86_400_000):
        results = run_examples(parsed.config, templates.templates, now)
        assert [problem.message for result in results for problem in result.problems] == []
        assert {result.route for result in results if result.message} == {route.name for route in parsed.config.routes}
        assert all(result.message.recipient.startswith("+9198000000") for result in results if result.message)


def test_a_message_that_whatsapp_would_find_too_long_is_told() -> None:
    text = CONFIG.replace("EXAMPLE", f"{{{RIYA}}}")
    templates = parse_templates(TEMPLATES.replace("Hi ", "x" * 1010))
    parsed = parse_config(
        text, environment={"KEY": "k"}, provider_types=settings_types(), templates=templates.templates
    )
    assert parsed.config is not None
    result, *_ = run_examples(parsed.config, templates.templates, NOW)
    (problem,) = result.problems
    assert problem.message == (
        'example 1 of route "coins": expected a message, got dead with variable_invalid: the body would be 2 over '
        "WhatsApp's 1024 characters: shorten variable name with `truncate`"
    )


@pytest.mark.parametrize(
    ("when", "event", "told"),
    [
        (
            "amount == 1250",
            '{amount: "1250"}',
            '`when: amount == 1250` is false (amount = "1250"); a text never equals',
        ),
        ("amount == 1250", "{amount: 1200}", "`when: amount == 1250` is false (amount = 1200)"),
        ("amount > 1250", "{amount: 1200}", "`when: amount > 1250` is false (amount = 1200)"),
        ("user_tier | default('false')", "{amount: 1200}", "`when: user_tier | default('false')` is false"),
    ],
)
def test_an_example_that_misses_shows_what_the_condition_read(when: str, event: str, told: str) -> None:
    result, *_ = run(f"event: {event}", CONFIG.replace("when: amount | float > 0", f"when: {when}"))
    (problem,) = result.problems
    assert told in problem.message
    assert problem.message.endswith("write `| float`") == ('"1250"' in told)


LIMITS = """version: 1
templates:
  gallabox:
    coins:
      header: {text: "Order {{1}} is on its way"}
      variables: [name, coins]
      body: "Hi {{name}}, {{coins}} coins."
      buttons: [{url: "https://a.example/{{1}}", text: Go}, {url: "{{1}}", text: Any}, FAR]
"""


@pytest.mark.parametrize(
    ("example", "told"),
    [
        ("code: A1, order: A-1", []),
        ("code: A1, order: A-1, long: " + "x" * 900, ["the address of button 2 would be 418 over WhatsApp's 2000"]),
        (
            "code: A1, order: 12345678901234567890123456789012345678901",
            ["the text header would be 1 over WhatsApp's 60 characters: shorten its value"],
        ),
        ("code: 'https://a.example/A1', order: A-1", ["button 0 would lead to one address inside another: give only"]),
    ],
)
def test_what_whatsapp_would_not_take_is_measured_with_the_examples_values(example: str, told: list[str]) -> None:
    templates = parse_templates(
        LIMITS.replace("FAR", "{url: 'https://a.example/" + "long/" * 300 + "{{1}}', text: Far}")
    )
    assert templates.problems == ()
    text = CONFIG[: CONFIG.index("  picture:")].replace("    valid_until", "    header: {text: order}\n    valid_until")
    urls = ("code", "link", "long | default(1)")
    buttons = ", ".join(f"{{index: {place}, url: {url}}}" for place, url in enumerate(urls))
    text = text.replace("    valid_until", f"    buttons: [{buttons}]\n    valid_until")
    text = text.replace(
        "EXAMPLE", f'event: {{amount: 5, user_mobile: "9800000001", link: "https://b.example", {example}}}'
    )
    parsed = parse_config(
        text,
        environment={"KEY": "example"},
        provider_types=settings_types(),
        templates=templates.templates,
    )
    assert parsed.config is not None, parsed.problems
    (result,) = run_examples(parsed.config, templates.templates, NOW)
    found = [problem.message.partition("variable_invalid: ")[2] for problem in result.problems]
    assert [text[: len(told[0])] for text in found] == told


@pytest.mark.parametrize(("dead", "right"), [("expression_failed", True), ("variable_invalid", False)])
def test_a_condition_that_cannot_be_worked_out_may_be_what_an_example_expects(dead: str, right: bool) -> None:
    result, *_ = run(f"{{{RIYA}, dead: {dead}}}", CONFIG.replace("amount | float > 0", "amount > user_name"))
    assert (not result.problems) is right
