"""What cannot be read, or can be and is never meant, is told with its cure before a customer sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.mapping.grammar import ExpressionCompiler, ExpressionError
from app.mapping.mistakes import explain_syntax, find_hyphen
from app.mapping.parse import Parsed
from app.mapping.template_entries import parse_templates

CUT = "in YAML, ` #` and a comma inside [ ] end a value: put the whole of it in quotes"
COMPILER = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("user_tier == “Gold”", 'typographic quotes do not mark a text; write straight ones: "Gold"'),
        ('user_tier == "Gold', f"a quote is not closed; {CUT}"),
        ("$user_name", "`$` does not stand before a property; write its name alone: user_name"),
        ("a && b", "`&&` is not known here; write `and`"),
        ('a || "b"', '`||` is not known here; write `or`; for what may be missing: user_name | default("there")'),
        ('a ?? "b"', '`??` is not known here; for what may be missing: user_name | default("there")'),
        ("a ? b : c", "`… ? … : …` is not known here; write `a if b else c`"),
        ('a === "b"', "`===` is not known here; compare with == or !="),
        ('a !== "b"', "`===` is not known here; compare with == or !="),
        ('a <> "b"', "`<>` is not known here; compare with !="),
        ("a => 1", "`=>` is not known here; compare with >= or <="),
        ("!a", "`!` is not known here; write `not`"),
        ('a | default: "b"', 'the argument of a filter stands in brackets; write user_name | default("there")'),
        ('a="b"', "the expression should end before `=`; compare with =="),
        ("a AND b", "`and`, `or`, `not`, `in` and `is` are written in small letters"),
        ('a contains "b"', '`contains` is not known here; write "VIP" in user_tags'),
        ("(a | float > 3", f"a bracket ( ) lacks its other half; {CUT}"),
        ("a[0", f"a bracket [ ] lacks its other half; {CUT}"),
        ("https://cdn.example/a.png", "an address is no expression; a fixed one is written {text: https://…}"),
        ("2027-03-31", "`2027-03-31` is no expression; a fixed date is written '\"2027-03-31\"'"),
        ("Acme Store", "`Acme Store` is not the name of a property; a fixed text is written {text: …}"),
        ("Hi, Riya!", "`Hi, Riya!` is not the name of a property; a fixed text is written {text: …}"),
        ("{{user_name}}", "{{ }} and {% %} do not belong here; write the expression without them: user_name | upper"),
        ("a >", "the expression ends too early"),
        ("product-name", "`product-name` would be product minus name; a minus has blanks around it"),
    ],
)
def test_what_other_languages_write_is_named_with_ours(source: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        COMPILER.compile(source)
    assert str(caught.value).partition(", and a key")[0] == told


@pytest.mark.parametrize(
    "source",
    ['"a && b ? c : d" ~ user_name', "user_name == 'AND'", '"ten-fold" ~ a', 'a["first-name"]', "a - b", "a-1", "-a"],
)
def test_what_stands_in_quotes_is_no_mistake(source: str) -> None:
    COMPILER.compile(source)
    assert find_hyphen(source) is None


def test_what_nobody_foresaw_is_told_as_the_parser_says_it() -> None:
    assert explain_syntax("a +* b", "it makes no sense") == "it makes no sense"


# -- well formed, and never meant -----------------------------------------------------------------

TEXT = "a fixed text is written {text: "


def read(parse: Callable[..., Parsed], providers_text: str, lines: str) -> list[str]:
    """Return the problems of a route with these lines, which begin on line 17, column 5."""
    head = "  uses-gallabox: {event: lead_create, provider: gallabox, template: coins_earned, variables: [a, b]}\n"
    text = f"{providers_text}routes:\n{head}  a:\n    event: coupon_create\n    provider: bitespeed\n    {lines}\n"
    found = parse(f"{text}    template: t\n").problems
    return [
        f"{one.line - 16}:{one.column - 4} {one.severity} {one.message}" + (f"; {one.hint}" if one.hint else "")
        for one in found
    ]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        # an expression of literals only
        (
            "variables: [amount, 2026-12-31]",
            f"2:21 error `2026-12-31` is arithmetic: every customer would read the same 1983; {TEXT}2026-12-31}}",
        ),
        (
            "variables: [31/12/2026]",
            "2:13 error `31/12/2026` is arithmetic: every customer would read the same 0.00127",
        ),
        ("variables: {a: 31-12-2026}", "2:16 error `31-12-2026` is arithmetic"),
        ('variables: ["1_000"]', "2:13 error `1_000` is arithmetic: every customer would read the same 1000"),
        ("variables: ['1 / 0']", "2:13 error `1 / 0` comes to nothing, whatever the event holds"),
        ("variables: [none]", "2:13 error `none` comes to nothing, whatever the event holds"),
        (
            "variables: [amount | default(2026-12-31)]",
            '2:13 error `2026-12-31` is arithmetic, not a date; put it in quotes: "2026-12-31"',
        ),
        ("buttons: [{index: 0, url: 10-20}]", "2:27 error `10-20` is arithmetic"),
        # an instant that is none
        (
            "valid_until: 2026-12-31",
            "2:14 error `2026-12-31` is not a date: nothing would ever be sent; name a property, such as expire",
        ),
        ("valid_until: '\"31/12/2026\"'", '2:14 error `"31/12/2026"` is not a date'),
        ("limited_time_offer: '\"soon\"'", '2:21 error `"soon"` is not a date'),
        (
            "valid_until: 2027-03-31",
            '2:14 error "valid_until": `2027-03-31` is no expression; a fixed date is written \'"2027-03-31"\'',
        ),
        # names that are none
        (
            "buttons: [{index: 0, url: rewards/summer}]",
            f"2:27 error `rewards/summer` would be a division; {TEXT}rewards/summer}}",
        ),
        (
            "header: {document: invoice_url, filename: Invoice.pdf}",
            f"2:43 error `Invoice.pdf` is read as a property of the event; {TEXT}Invoice.pdf}}",
        ),
        ("header: {document: invoice_url, filename: bill.PDF}", "2:43 error `bill.PDF` is read as a property"),
        (
            "variables: [user_name | default(there)]",
            (
                '2:13 error "there" is read as a property of the event, and may be missing, too; '
                'a fixed text stands in quotes: default("there")'
            ),
        ),
        ("variables: [user_name | d(friend)]", '2:13 error "friend" is read as a property'),
        # fixed texts
        ('variables: [{text: " "}]', "2:13 error a fixed text cannot be empty"),
        ('variables: [{text: "\u200b"}]', "2:13 error a fixed text cannot be empty"),
        (
            'variables: [{text: "Dear {{name}}"}]',
            '2:13 error {{ }} in a fixed text is sent as it stands; write an expression instead: "Dear " ~ user_name',
        ),
        (
            f"variables: [{{text: {'x' * 257}}}]",
            "2:13 error this text has 257 characters, and at most 256 are sent; shorten it",
        ),
        (f"header: {{text: {{text: {'x' * 61}}}}}", "2:16 error this text has 61 characters, and at most 60 are sent"),
        (f"header: {{document: a, filename: {{text: {'x' * 101}}}}}", "2:33 error this text has 101 characters"),
        (
            f"buttons: [{{index: 0, copy_code: {{text: {'x' * 21}}}}}]",
            "2:33 error this text has 21 characters, and at most 20",
        ),
        (
            f"header: {{location: {{latitude: a, longitude: b, name: c, address: {{text: {'x' * 257}}}}}}}",
            "2:66 error this text has 257",
        ),
        (
            f"header: {{image: {{text: https://a.example/{'x' * 1000}}}}}",
            "2:17 error this text has 1018 characters, and at most 1000",
        ),
        # what YAML cuts or splits
        (
            "variables:\n      - text: Order #1042 is ready",
            "3:11 error ` #` begins a comment: what follows it is cut off; put the whole value in quotes",
        ),
        ("variables:\n      - text: Sale #now on", "3:11 error ` #` begins a comment"),
        ("variables:\n      - amount #1", "3:5 error ` #` begins a comment"),
        (
            'variables:\n      - user_name ~ " #" ~ order_id',
            '3:5 error "variables" item 1: a quote is not closed; in YAML, ` #` and a comma inside [ ] end',
        ),
        (
            'variables: [user_name | replace(",", " "), amount]',
            "2:13 error a comma inside [ ] ends the item; put the expression in quotes, or write one `- ` a line",
        ),
        ('variables: [amount, user_name | replace(",", " ")]', "2:21 error a comma inside [ ] ends the item"),
        (
            'variables:\n      - user_name ~ ": " ~ user_tier',
            '3:5 error ": " inside a value begins a mapping; put the whole value in quotes',
        ),
        (
            'header: {image: "https://cdn.acme.example/a.png"}',
            '2:17 error "image": an address is no expression; a fixed one is written {text: https://…}',
        ),
    ],
)
def test_a_slip_is_an_error_at_its_place_with_its_cure(
    lines: str, told: str, parse: Callable[..., Parsed], providers_text: str
) -> None:
    (line,) = read(parse, providers_text, lines)
    assert line.startswith(told), line


@pytest.mark.parametrize(
    "lines",
    [
        'variables: ["\'Acme Store\'", \'"2026-12-31"\', "100"]',
        "variables: [amount / 2, amount/amount, amount - 1]",
        "variables: [fiat_value/amount]",
        "variables: [a/b]\n    examples: [{event: {a: 4, b: 2, user_mobile: '9800000001'}}]",
        "variables: [files.pdf]\n    examples: [{event: {files: {pdf: x}, user_mobile: '9800000001'}}]",
        "variables: [user_name | default(name) | default('there')]",
        "variables: [user_name | default(there)]\n    examples: [{event: {there: x, user_mobile: '9800000001'}}]",
        "variables: [user_name | default(my_name)]",
        "valid_until: '\"2026-12-31\"'",
        "valid_until: expire | default('2026-12-31')",
        "dedup_by: value ~ '2026-12-31'",
        "variables: [amount] #comment",
        "variables:\n      - amount # 1250 → 1,250",
        "variables: [{text: '#1042'}, {text: 'https://a.example/x'}]",
        f"variables: [{{text: https://a.example/{'x' * 300}}}]",
        f"buttons: [{{index: 0, url: {{text: {'x' * 900}}}}}]",
        "header: {location: {latitude: a, longitude: b, name: {text: Acme}, address: c}}",
    ],
)
def test_what_is_meant_is_no_slip(lines: str, parse: Callable[..., Parsed], providers_text: str) -> None:
    assert read(parse, providers_text, lines) == []


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("dd/mm/yyyy", "`m` is the minute; the month is `M`: dd/MM/y"),
        ("d mmm", "`m` is the minute"),
        ("HH:MM", "`M` is the month; the minute is `m`: HH:mm"),
        ("dd/MM/YYYY", "`Y` is the year of the week"),
        ("DD MMM", "`D` is the day of the year"),
    ],
)
def test_a_pattern_that_no_date_is_written_with_is_an_error(pattern: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        ExpressionCompiler("IN", "Asia/Kolkata", "en_IN").compile(f'expire | date("{pattern}")')
    assert told in str(caught.value)


@pytest.mark.parametrize("pattern", ["d MMM, HH:mm", "HH:mm", "dd/MM/yyyy", "EEEE d MMMM y 'at' h:mm a", "MMM y"])
def test_a_pattern_with_hours_and_months_in_their_places_is_fine(pattern: str) -> None:
    ExpressionCompiler("IN", "Asia/Kolkata", "en_IN").compile(f'expire | date("{pattern}")')


ORDERED = """version: 1
templates:
  bitespeed:
    t: {variables: [name, coins, date], body: "{{name}} {{coins}} {{date}}"}
"""


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ("user_name, user_coins, expire", []),
        (
            "coins | number, user_name | default('there'), expire",
            ['"coins" fills {{name}}', '"user_name" fills {{coins}}'],
        ),
        ("user_name, expiry_date, coins", ['"expiry_date" fills {{coins}}', '"coins" fills {{date}}']),
        ("user_name, name, name", []),  # only one place is free for a name, and it is taken
        ("{text: coins}, amount, expire", []),
    ],
)
def test_a_list_that_fits_its_template_better_in_another_order_is_doubted(
    variables: str, told: list[str], parse: Callable[..., Parsed], with_route: Callable[..., str]
) -> None:
    templates = parse_templates(ORDERED).templates
    text = with_route(f"provider: bitespeed, template: t, variables: [{variables}]").partition("  uses-")[0]
    found = [one.message for one in parse(text, templates=templates).problems if "fills" in one.message]
    assert len(found) == len(told)
    assert all(start in message for start, message in zip(told, found, strict=True)), found
