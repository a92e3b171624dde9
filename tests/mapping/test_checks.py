from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.mapping.parse import Parsed
from app.mapping.template_entries import parse_templates

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("when", ["true", "1", "'yes'", "1 < 2"])
def test_a_condition_that_is_always_true_is_fine(
    when: str, parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    assert parse(with_route(f"provider: bitespeed, template: t, when: {when!r}")).problems == ()
    assert parse(with_route("provider: bitespeed, template: t, when: true")).problems == ()


@pytest.mark.parametrize("when", ["false", "0", "''", "none", "1 / 0", "1 > 2", "[]", "'false'"])
def test_a_condition_that_can_never_be_true_is_an_error(
    when: str, parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    (problem,) = parse(with_route(f'provider: bitespeed, template: t, when: "{when}"')).problems
    assert "can never be hit" in problem.message


def test_two_routes_for_one_topic_are_fine_where_they_differ(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    base = "provider: bitespeed, template: t, when: amount | float > 1"
    for other in (base.replace("> 1", "<= 1"), base.replace("bitespeed", "gallabox"), base + ", recipient: friend"):
        text = with_route(base).replace("  uses-", f"  b: {{event: coupon_create, {other}}}\n  uses-", 1)
        assert [problem for problem in parse(text).problems if problem.severity == "error"] == []
    text = with_route(base).replace("  uses-", f"  b: {{event: coupon_create, {base}, priority: 1}}\n  uses-", 1)
    (problem,) = parse(text).problems
    assert (problem.line, problem.message) == (15, 'route "b" repeats route "a" of line 14: both would send')


TEMPLATES = """version: 1
templates:
  bitespeed:
    none: {body: "Hello, and welcome."}
    one: {body: "Hi {{1}}!"}
    fixed-header: {header: {text: Welcome}, body: "Hi {{1}}!"}
    text-header: {header: {text: "Hello {{1}}"}, body: "You have news."}
    image: {header: {image: true}, body: "You have news."}
    two-buttons:
      body: You have news.
      buttons: [{url: "https://a.example", text: A}, {url: "https://b.example/{{1}}", text: B}]
    names: {variables: [name, coins], body: "Hi {{name}}, {{coins}} coins."}
    paused: {status: PAUSED, body: Hello.}
    offer: {category: MARKETING, body: "Hello."}
    listed: {variables: [name, code], body: "Hi {{name}}!", buttons: [{url: "https://b.example/{{code}}", text: B}]}
    coupon:
      body: Hi.
      buttons: [{copy_code: true, text: Copy}, {url: "https://b.example/{{1}}", text: B}, {reply: No}]
    flow: {body: Hi., buttons: [{flow: true, text: Begin}]}
    place: {header: {location: true}, body: Hi.}
    moving: {header: {other: gif}, body: Hi.}
    countdown: {limited_time_offer: {text: Now}, body: Hi.}
    quiet: {limited_time_offer: {text: Now, expires: false}, body: Hi.}
    carousel: {body: Hi., others: [carousel]}
    pay: {body: Hi., buttons: [{other: order_details, text: Pay}, {spm: true, text: View}]}
    both: [{body: "Hi {{1}}."}, {language: hi, body: "{{1}} {{2}}."}]
"""


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("template: none", []),
        ("template: none, variables: [a]", ["error has no variables; the route gives 1, 1 too many"]),
        ("template: none, variables: {x: a}", ['error has no variables; it has no "x"']),
        ("template: one", ['error wants {1}; the route gives 0, so "1" is missing']),
        ("template: one, variables: [a]", []),
        ('template: one, variables: {"1": a}', []),
        ("template: fixed-header, variables: [a]", []),
        ("template: fixed-header, variables: [a], header: {text: b}", ["error has no variable header"]),
        ("template: text-header, header: {text: b}", []),
        ("template: text-header", ["warning has a variable text header"]),
        ("template: image, header: {image: b}", []),
        ("template: image, header: {video: b}", ["error has a variable image header"]),
        ("template: two-buttons, buttons: [{index: 1, url: a}]", []),
        (
            "template: two-buttons, buttons: [{index: 0, url: a}]",
            ["error button 0", "error has a variable URL in button 1"],
        ),
        ("template: text-header, header: {image: b}", ["error the route gives an image header"]),
        ("template: listed, variables: [a], buttons: [{index: 0, url: b}]", []),
        ("template: listed, variables: [a, b], buttons: [{index: 0, url: b}]", []),
        ("template: lited", ["warning is not in templates.yaml"]),
        ("template: names, variables: [name, wallet.coins]", []),
        (
            "template: names, variables: [wallet.coins, name]",
            ['warning "coins" fills {{name}}', 'warning "name" fills {{coins}}'],
        ),
        ('template: names, variables: [x, {text: "name"}]', []),
        ("template: names, variables: [x | upper, coins | upper]", []),
        ("template: names, variables: {name: x, coin: y}", ['error wants {name, coins}; it has no "coin"']),
        ("template: names, variables: {name: x}", ['error wants {name, coins}; "coins" is missing']),
        ("template: names, variables: [name, coins], language: en", []),
        (
            "template: names, variables: [name, coins], language: hi",
            ['warning is in "en", and the route asks for "hi"'],
        ),
        ("template: paused, variables: []", ["warning is paused, not approved"]),
        ("template: coupon, buttons: [{index: 0, copy_code: a}, {index: 1, url: b}]", []),
        ("template: coupon, buttons: [{index: 0, copy_code: a}, {index: 1, url: b}, {index: 2, payload: c}]", []),
        (
            "template: coupon, buttons: [{index: 1, url: b}]",
            ['error template "coupon" has a button 0 that needs copy_code, and the route gives none'],
        ),
        (
            "template: coupon",
            ["error has a variable URL in button 1 and a button 0 that needs copy_code, and the route"],
        ),
        (
            "template: coupon, buttons: [{index: 0, url: a}, {index: 1, copy_code: b}]",
            ["error button 0 of template", "error is filled with url, not with copy_code"],
        ),
        (
            "template: coupon, buttons: [{index: 0, copy_code: a}, {index: 1, url: b}, {index: 3, flow: c}]",
            ['error button 3 of template "coupon" takes no flow'],
        ),
        ("template: flow, buttons: [{index: 0, flow: a}]", []),
        ("template: place, header: {location: {latitude: a, longitude: b, name: c, address: d}}", []),
        ("template: place", ["warning has a variable location header, and the route gives none"]),
        ("template: moving", ['warning template "moving" has a gif header, which the relay cannot fill']),
        ("template: countdown, limited_time_offer: expire", []),
        ("template: countdown", ["error has a limited-time offer, and the route does not say when it ends"]),
        ("template: quiet", []),
        ("template: quiet, limited_time_offer: expire", ["error has no limited-time offer that ends"]),
        ("template: carousel", ['warning template "carousel" has a carousel, which the relay cannot fill']),
        (
            "template: pay",
            [
                (
                    'warning template "pay" has a button of the kind ORDER_DETAILS (0) and a button of the kind SPM '
                    "(1), which the relay cannot fill"
                )
            ],
        ),
        ("template: both, variables: [a, b], language: hi", []),
        ("template: both, variables: [a], language: en", []),
        ("template: both, variables: [a], language: hi", ['error wants {1, 2}; the route gives 1, so "2" is missing']),
        ("template: both, variables: [a], language: fr", ['warning is in "en", "hi", and the route asks for "fr"']),
        ("template: offer", ["warning is marketing, and the route does not say"]),
        ("template: offer, valid_for: 6h", []),
        ("template: offer, valid_until: expire", []),
    ],
)
def test_a_route_is_held_against_its_template(
    route: str, told: list[str], parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    templates = parse_templates(TEMPLATES)
    assert templates.problems == ()
    parsed = parse(
        with_route(f"provider: bitespeed, {route}").replace("template: t}", "template: none}"),
        templates=templates.templates,
    )
    shown = [f"{problem.severity} {problem.message}" for problem in parsed.problems]
    assert len(shown) == len(told)
    for fragment, line in zip(sorted(told), sorted(shown), strict=True):
        assert line.startswith(fragment.split()[0])
        assert fragment.partition(" ")[2] in line


def test_a_nearly_known_property_is_asked_after_wherever_it_stands(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route(
        "provider: bitespeed, template: t, when: user_nmae, recipient: user_mobil, valid_until: expir,"
        ' dedup_by: vlaue1, variables: {"1": user_teir, "2": {text: x}}, header: {image: business_nam},'
        " buttons: [{index: 0, url: user_referal_link}, {index: 1, url: {text: x}}]"
    )
    asked = {problem.hint for problem in parse(text).problems}
    names = ("user_name", "user_mobile", "expire", "user_tier", "business_name", "user_referral_link")
    assert asked == {f'did you mean "{name}"?' for name in names} | {"if it is right, show it in an example"}


def test_a_property_that_an_example_shows_is_not_asked_after(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route(
        "provider: bitespeed, template: t, variables: [user.nmae], examples: [{event: {user: {nmae: x}}}]"
    )
    assert parse(text).problems == ()
    assert parse(text.replace("user.nmae", "user_nmae").replace("user: {nmae: x}", "user_nmae: x")).problems == ()


@pytest.mark.parametrize(
    ("route", "told"),
    [
        (
            "valid_until: coins_expire_on",
            ['"coins_expire_on" is not a property known from Nector: without it nothing is sent'],
        ),
        ("valid_until: coins_expire_on, examples: [{event: {coins_expire_on: x}}]", []),
        ('valid_until: coins_expire_on | default("2030-01-01")', []),
        ("dedup_by: my_own_id", ['"my_own_id" is not a property known from Nector: without it nothing is sent']),
        ("valid_until: expire", []),
        ("when: my_own_flag", []),
    ],
)
def test_a_deadline_on_a_property_that_the_topic_never_carries_is_doubted(
    route: str, told: list[str], parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    assert [one.message for one in parse(with_route(f"provider: bitespeed, template: t, {route}")).problems] == told


@pytest.mark.parametrize(
    ("route", "told", "hint"),
    [
        ('recipient: "+919800000001"', "every message would go to one and the same number", "name a property"),
        (
            "dedup_by: amount, examples: [{event: {amount: 1}}]",
            "two events of one customer often have the same value here",
            "such as order_id",
        ),
        ("dedup_by: '1'", "two events of one customer often have the same value here", "leave dedup_by out"),
        ("variables: [Acme]", '"Acme" is read as a property of the event', "a fixed text is written {text: Acme}"),
        ("when: user_tier == Gold", '"Gold" is read as a property of the event', 'stands in quotes: "Gold"'),
        ("variables: [amount | money(INR)]", '"INR" is read as a property of the event', 'stands in quotes: "INR"'),
    ],
)
def test_what_is_the_same_for_everybody_or_a_text_without_quotes_is_told(
    route: str, told: str, hint: str, parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    (problem,) = parse(with_route(f"provider: bitespeed, template: t, {route}")).problems
    assert told in problem.message
    assert hint in problem.hint


def test_a_recipient_that_the_defaults_give_to_everybody_is_told_there(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: t", extra='defaults: {recipient: "9800000001"}\n')
    problems = parse(text).problems
    assert {problem.line for problem in problems} == {13}
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("route", "told", "hint"),
    [
        ("topic: coupon_create, template: t", 'unknown key "topic" in route "b"', 'did you mean "event"?'),
        (
            "event: order_create, template: names, varables: [a, b]",
            'unknown key "varables" in route "b"',
            'did you mean "variables"?',
        ),
        (
            "event: order_create, template: t, variables: [{name: a}]",
            'unknown key "name" in route "b"',
            "variables by name stand without dashes: `name: …`; a fixed text is {text: …}",
        ),
        (
            "event: order_create, template: t, variables: [{user_name}]",
            '"user_name" has no value in route "b"',
            "an expression is written without braces: user_name",
        ),
        (
            'event: order_create, template: t, variables: ["${user_name}"]',
            "the environment variable user_name is not set",
            "a property of the event is written without ${ }: user_name",
        ),
        (
            "event: order_create, template: one-button, buttons: [{index: 0, url: }]",
            '"url" has no value in route "b"',
            "write one, or remove the key",
        ),
        ("event: order_create, template: t, valid_for: 48", '"valid_for" must be a text', "add the unit: 24h, 7d"),
        ("event: order_create, template: t, header: user_tier", '"header" must be a mapping', "write {text: …}"),
        ("event: order_create, template: t, buttons: {url: a}", '"buttons" must be a list', "write `- index: 0`"),
        (
            "event: order_create, template: t, examples: [{}]",
            '"event" is missing in route "b"',
            "the properties stand below `event:`",
        ),
        ("event: order_create, template: t, colour: red", 'unknown key "colour" in route "b"', 'known: "event", "temp'),
    ],
)
def test_a_mistake_of_form_is_told_once_with_what_to_write(
    route: str, told: str, hint: str, parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: t").replace(
        "  uses-", f"  b: {{provider: bitespeed, {route}}}\n  uses-", 1
    )
    own = 't: {body: x}\n    one-button: {body: x, buttons: [{url: "https://acme.example/{{1}}", text: Go}]}\n    none:'
    (problem,) = parse(text, templates=parse_templates(TEMPLATES.replace("none:", own)).templates).problems
    assert told in problem.message
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "told"),
    [
        ("    event: a", "   event: a", 3, 5, "this line is indented otherwise than line 2"),
        ("    template: b", "      template: b", 3, 7, "this line is indented otherwise than line 2"),
        ("    event: a", "    event a", 2, 5, 'this line has no ": "'),
        ("    event: a", "    event:a", 2, 5, 'this line has no ": "'),
        ("    event: a", "    # why\n\n    event:a", 4, 5, 'this line has no ": "'),
        ("    event: a", "  \xa0 event: a", 2, 1, "what indents this line is not only spaces"),
        ("event: a", "event: a: b", 2, 13, 'a second ": " on this line'),
        ("    template: b", '    template: "b" == c', 3, 15, "something follows the closing quote"),
        ("    template: b", "    template: !b", 3, 15, "tags (!name) are refused"),
    ],
)  # fmt: skip
def test_text_that_is_no_yaml_is_pointed_at_where_it_was_typed(
    old: str, new: str, line: int, column: int, told: str, parse: Callable[..., Parsed]
) -> None:
    text = "r:\n    event: a\n    template: b\n    when: c\n"
    assert old in text
    places = {problem.message: (problem.line, problem.column) for problem in parse(text.replace(old, new)).problems}
    assert {place for message, place in places.items() if told in message} == {(line, column)}, places


def test_a_colon_that_nothing_above_explains_is_told_as_a_second_one(parse: Callable[..., Parsed]) -> None:
    for text, line in (("a:\n  c: d: e\n", 2), ("c: d: e\n", 1)):
        (problem,) = parse(text).problems
        assert (problem.line, problem.message) == (line, 'a second ": " on this line')


def test_a_topic_of_ones_own_may_carry_anything(parse: Callable[..., Parsed], with_route: Callable[..., str]) -> None:
    text = with_route("provider: bitespeed, template: t, valid_until: my_end").replace("coupon_create", "my_trigger")
    assert [problem.message for problem in parse(text).problems] == ['"my_trigger" is not in Nector\'s list of topics']


def test_recorded_events_say_which_properties_there_are(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: t, variables: [vuocher, user_name, voucher, code]")
    recorded = {"coupon_create": {"voucher", "customer", "customer.name"}}
    told = [(problem.message, problem.hint) for problem in parse(text, recorded=recorded).problems]
    assert told == [
        ('"vuocher" is in none of the recorded events of coupon_create', 'did you mean "voucher"?'),
        ('"code" is in none of the recorded events of coupon_create', "if it is right, show it in an example"),
    ]


def test_a_route_beside_one_that_always_sends_the_same_is_doubted(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: t, when: amount | float > 1")
    double = text.replace("  uses-", "  b: {event: coupon_create, provider: bitespeed, template: t}\n  uses-", 1)
    (problem,) = parse(double).problems
    assert (problem.severity, problem.line) == ("warning", 14)
    assert problem.message == 'whenever route "a" hits, route "b" of line 15 sends the same, too'
    assert parse(double.replace("template: t}\n  uses-g", "template: u}\n  uses-g")).problems == ()


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("template: one, variables: [a]", []),
        ("template: nobodys", ['error provider "bitespeed" has no template "nobodys"']),
        ("template: paused", ['error template "paused" is paused, not approved']),
        (
            "template: one, variables: [a], language: hi",
            ['error template "one" is in "en", and the route asks for "hi"'],
        ),
    ],
)
def test_what_the_provider_itself_does_not_have_is_an_error(
    route: str, told: list[str], parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route(f"provider: bitespeed, {route}").replace("template: t}", "template: none}")
    parsed = parse(text, templates=parse_templates(TEMPLATES).templates, listed=["bitespeed"])
    assert [f"{problem.severity} {problem.message}" for problem in parsed.problems] == told


def test_a_language_from_the_defaults_is_doubted_there(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: one, variables: [a]", extra="defaults: {language: hi}\n")
    places = {
        (problem.line, problem.column)
        for problem in parse(text, templates=parse_templates(TEMPLATES).templates).problems
    }
    assert (13, 22) in places


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("fiat_value > 0", "`fiat_value`"),
        ("fiat_value == 200", "`fiat_value`"),
        ("0 < fiat_value", "`fiat_value`"),
        ("status == 'issued' and fiat_value >= 1.5", "`fiat_value`"),
        ("fiat_value | float > 0", ""),
        ("0 < fiat_value | float", ""),
        ("fiat_value == '200'", ""),
        ("a_property_of_ours > 0", ""),
        ("'fiat_value > 0' == status", ""),
    ],
)
def test_a_property_that_may_be_a_text_is_not_compared_with_a_number(
    parse: Callable[..., Parsed], with_route: Callable[..., str], when: str, told: str
) -> None:
    problems = parse(with_route(f'provider: bitespeed, template: t, when: "{when}"')).problems
    assert [(one.severity, one.message.partition(" ")[0], one.hint) for one in problems] == (
        [("warning", told, "write fiat_value | float")] if told else []
    )


def test_a_template_of_another_provider_is_told_to_be_that_ones(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    texts = TEMPLATES.replace("templates:", "templates:\n  gallabox: {coins: {body: Hello.}}")
    parsed = parse(with_route("provider: bitespeed, template: coins"), templates=parse_templates(texts).templates)
    assert 'it is one of provider "gallabox"' in [problem.hint for problem in parsed.problems]


def test_what_is_near_a_property_of_any_topic_is_asked_for_where_little_is_known(
    parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    text = with_route("provider: bitespeed, template: t, variables: [amout]").replace("coupon_create", "order_create")
    assert ('"amout" is not a property known from Nector', 'did you mean "amount"?') in [
        (problem.message, problem.hint) for problem in parse(text).problems
    ]
