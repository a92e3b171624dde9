from __future__ import annotations

import pytest

from app.mapping import format_problem
from app.mapping.template import FilledTemplate, Template, TemplateButton, fill_template, print_message
from app.mapping.template_entries import ParsedTemplates, dump_templates, parse_templates
from app.model.message import Button, Header, Variable

FILE = """\
version: 1
templates:
  gallabox:
    coins_earned:
      category: MARKETING
      header: {image: true}
      body: "Hi {{name}}, you earned {{ coins }} coins."
      footer: Reply STOP to opt out
      buttons:
        - {url: "https://acme.example/r/{{1}}", text: Redeem}
        - {phone: "+919800000001", text: Call}
        - {reply: Stop}
  bitespeed:
    tpl_4711: {name: coupon ready, body: "{{2}} waits for {{1}}", header: {text: "For {{1}}"}, status: paused}
"""

COINS = Template(
    provider="gallabox",
    id="coins_earned",
    body="Hi {{name}}, you earned {{ coins }} coins.",
    variables=("name", "coins"),
    header_kind="image",
    footer="Reply STOP to opt out",
    buttons=(
        TemplateButton("url", "Redeem", "https://acme.example/r/{{1}}"),
        TemplateButton("phone", "Call", "+919800000001"),
        TemplateButton("reply", "Stop"),
    ),
    category="MARKETING",
)
COUPON = Template(
    provider="bitespeed",
    id="tpl_4711",
    body="{{2}} waits for {{1}}",
    variables=("1", "2"),
    header_kind="text",
    header_text="For {{1}}",
    status="paused",
    name="coupon ready",
)


def make_entry(entry: str) -> str:
    return f"version: 1\ntemplates:\n  gallabox:\n    t: {entry}\n"


def tell(parsed: ParsedTemplates) -> tuple[str, ...]:
    """Return the problems as `line:column: text`."""
    return tuple(format_problem("", problem)[1:].replace(" error:", "", 1) for problem in parsed.problems)


def fill(body: str, *variables: Variable, names: tuple[str, ...] = ()) -> str:
    return fill_template(Template("gallabox", "t", body, names), variables, None, ()).body


def test_file_becomes_templates_by_provider_and_id() -> None:
    parsed = parse_templates(FILE)
    assert parsed.problems == ()
    assert parsed.templates == {("gallabox", "coins_earned"): COINS, ("bitespeed", "tpl_4711"): COUPON}


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "version: 1\n", "version: 1\ntemplates:\n  gallabox:\n"])
def test_file_without_entries_holds_no_templates(text: str) -> None:
    parsed = parse_templates(text)
    assert (parsed.templates, parsed.problems) == ({}, ())


@pytest.mark.parametrize(
    ("body", "variables"),
    [
        ("Hi {{name}}, {{coins}} for {{name}}", ("name", "coins")),
        ("{{10}} {{2}} {{1}}", ("1", "2", "10")),
        ("{{b}} {{1}}", ("b", "1")),
        ("none at all, {{}}, {{ }}, {x}", ()),
    ],
)
def test_variables_are_read_from_the_body_where_none_are_listed(body: str, variables: tuple[str, ...]) -> None:
    assert parse_templates(make_entry(f'{{body: "{body}"}}')).templates["gallabox", "t"].variables == variables


@pytest.mark.parametrize("kind", ["image", "video", "document"])
def test_media_header_keeps_its_kind(kind: str) -> None:
    assert parse_templates(make_entry(f"{{body: x, header: {{{kind}: true}}}}")).templates[
        "gallabox", "t"
    ].header_kind == (kind)


def test_listed_variables_keep_their_order_and_may_be_numbers() -> None:
    parsed = parse_templates(make_entry('{body: "{{2}} {{1}}", variables: [1, 2]}'))
    assert parsed.templates["gallabox", "t"].variables == ("1", "2")
    parsed = parse_templates(make_entry('{body: "{{a}} {{b}}", variables: [b, a]}'))
    assert parsed.templates["gallabox", "t"].variables == ("b", "a")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version: [", "1:"),
        ("- 1", "1:1: the file must be a mapping"),
        ("version: 2\n", "1:1: version: input should be 1"),
        ("templates: {}\n", "1:1: version: is missing"),
        ("version: 1\ntemplates: []\n", "2:1: templates: must be a map"),
        ("version: 1\nextra: 1\n", "2:1: extra: unknown key"),
        ("version: 1\nversion: 1\n", "2:1: "),
        (make_entry("{}"), "4:5: templates.gallabox.t.body: is missing"),
        (make_entry(""), "4:5: templates.gallabox.t: must be a map"),
        (make_entry('{body: ""}'), "4:9: templates.gallabox.t.body: string should have at least 1 character"),
        (make_entry("{body: 5}"), "4:9: templates.gallabox.t.body: must be text; put it in quotes"),
        (
            make_entry("{body: x, boddy: y}"),
            '4:18: templates.gallabox.t.boddy: unknown key; did you mean "body"?',
        ),
        (make_entry("{body: x, category: OTHER}"), "4:18: templates.gallabox.t.category: input should be"),
        (make_entry("{body: x, variables: a}"), "4:18: templates.gallabox.t.variables: must be a list"),
        (
            make_entry("{body: x, variables: [a]}"),
            "4:5: templates.gallabox.t: variables lists a, which is used nowhere",
        ),
        (
            make_entry('{body: "{{a}} {{b}}", variables: [a]}'),
            "4:5: templates.gallabox.t: the body uses {{b}}, which variables does not list",
        ),
        (make_entry("{body: x, header: {text: a, image: true}}"), "4:18: templates.gallabox.t.header: give exactly"),
        (make_entry("{body: x, header: {image: a.jpg}}"), "4:27: templates.gallabox.t.header.image: input should be"),
        (make_entry("{body: x, buttons: 1}"), "4:18: templates.gallabox.t.buttons: must be a list"),
        (make_entry("{body: x, buttons: [{url: a}]}"), "4:28: templates.gallabox.t.buttons.0: write {url, text}"),
    ],
)
def test_fault_is_told_with_its_place_and_its_template_left_out(text: str, problem: str) -> None:
    parsed = parse_templates(text)
    assert tell(parsed)[0].startswith(problem)
    assert parsed.templates == {}


def test_one_wrong_template_leaves_the_others_usable() -> None:
    parsed = parse_templates(FILE.replace("tpl_4711: {name", "tpl_4711: {nam"))
    assert list(parsed.templates) == [("gallabox", "coins_earned")]
    assert tell(parsed) == ('14:16: templates.bitespeed.tpl_4711.nam: unknown key; did you mean "name"?',)


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    parsed = parse_templates("version: 1\ntemplates:\n  g:\n    a: {body: 1, x: 1}\n    a: {}\n    b: {}\n")
    assert [problem.split(": ")[0] for problem in tell(parsed)] == ["4:9", "4:18", "5:5", "6:5"]


def test_variable_of_header_or_button_may_be_listed() -> None:
    text = make_entry(
        '{body: "{{a}}", variables: [a, b, c], header: {text: "{{b}}"}, buttons: [{url: "{{c}}", text: x}]}'
    )
    assert parse_templates(text).problems == ()


def test_dump_is_sorted_stable_and_read_back_the_same() -> None:
    templates = {("gallabox", "coins_earned"): COINS, ("bitespeed", "tpl_4711"): COUPON}
    text = dump_templates(templates)
    assert text == dump_templates(dict(reversed(templates.items())))
    assert text.index("bitespeed") < text.index("gallabox")
    assert parse_templates(text).templates == templates
    assert parse_templates(text).problems == ()


@pytest.mark.parametrize("body", ["two\nlines\n\nand a blank one", "emoji 🎉 नमस्ते", " {{1}} ", "a: b # c", "x" * 1024])
def test_dump_keeps_any_body(body: str) -> None:
    template = Template("gallabox", "t", body, variables=("1",) if "{{1}}" in body else ())
    assert parse_templates(dump_templates({("gallabox", "t"): template})).templates["gallabox", "t"] == template


@pytest.mark.parametrize(
    ("body", "names", "variables", "expected"),
    [
        ("Hi {{name}}", ("name",), [Variable("name", "Riya")], "Hi Riya"),
        ("Hi {{ name }}", ("name",), [Variable(None, "Riya")], "Hi Riya"),
        ("{{b}} {{a}}", ("a", "b"), [Variable(None, "1"), Variable(None, "2")], "2 1"),
        ("{{2}} {{1}}", ("1", "2"), [Variable(None, "x"), Variable(None, "y")], "y x"),
        ("{{2}} {{1}}", (), [Variable("user", "x"), Variable("coins", "y")], "y x"),
        ("{{1}} {{2}}", ("1", "2"), [Variable("2", "two"), Variable("1", "one")], "one two"),
        ("{{1}} {{2}}", ("1", "2"), [Variable(None, "{{2}}"), Variable(None, "x")], "{{2}} x"),
        ("{{1}}", ("1",), [Variable(None, r"\1 \g<0>")], r"\1 \g<0>"),
        ("{{1}} {{2}}", ("1", "2"), [Variable(None, "x")], "x {{2}}"),
        ("{{name}}", ("name",), [], "{{name}}"),
        ("{{a}}", ("a",), [Variable(None, "x"), Variable(None, "too many")], "x"),
    ],
)
def test_body_is_filled_once_by_name_or_position(
    body: str, names: tuple[str, ...], variables: list[Variable], expected: str
) -> None:
    assert fill(body, *variables, names=names) == expected


@pytest.mark.parametrize(
    ("template", "header", "expected"),
    [
        (Template("g", "t", "x"), Header("text", "unused"), ""),
        (Template("g", "t", "x", header_kind="text", header_text="For {{1}}"), Header("text", "{{1}}"), "For {{1}}"),
        (Template("g", "t", "x", header_kind="text", header_text="For {{1}}"), Header("text", "Riya"), "For Riya"),
        (Template("g", "t", "x", header_kind="text", header_text="For {{1}}"), None, "For {{1}}"),
        (Template("g", "t", "x", header_kind="image"), None, "[image]"),
        (
            Template("g", "t", "x", header_kind="image"),
            Header("image", "https://cdn.example/a/b.jpg?c"),
            "[image b.jpg]",
        ),
        (Template("g", "t", "x", header_kind="video"), Header("video", "https://cdn.example"), "[video cdn.example]"),
        (
            Template("g", "t", "x", header_kind="document"),
            Header("document", "https://cdn.example/1", "bill.pdf"),
            "[document bill.pdf]",
        ),
    ],
)
def test_header_shows_its_text_or_names_its_file(template: Template, header: Header | None, expected: str) -> None:
    assert fill_template(template, (), header, ()).header == expected


def test_button_gets_the_suffix_of_its_own_index() -> None:
    filled = fill_template(COINS, (), None, [Button(0, "ACME-7Q2P")])
    assert filled.buttons == (("Redeem", "https://acme.example/r/ACME-7Q2P"), ("Call", "+919800000001"), ("Stop", ""))
    unfilled = fill_template(COINS, (), None, [Button(1, "elsewhere")])
    assert unfilled.buttons[0] == ("Redeem", "https://acme.example/r/{{1}}")


def test_length_counts_the_body_with_its_values() -> None:
    filled = fill_template(COINS, [Variable(None, "Riya"), Variable(None, "100")], None, ())
    assert len(filled.body) == len("Hi Riya, you earned 100 coins.")


def test_message_is_drawn_as_a_bubble() -> None:
    filled = FilledTemplate(
        header="[image banner.jpg]",
        body="Hi *Riya*, you earned 100 coins.\n\nhttps://acme.example/a-long-link-stays-whole",
        footer="Reply STOP",
        buttons=(("Redeem", "https://acme.example/r/1"), ("Stop", "")),
    )
    assert print_message(filled, width=20) == (
        "╭─\n"
        "│ [image banner.jpg]\n"
        "│ Hi *Riya*, you\n"
        "│ earned 100 coins.\n"
        "│\n"
        "│ https://acme.example/a-long-link-stays-whole\n"
        "│ _Reply STOP_\n"
        "│ [ Redeem → https://acme.example/r/1 ]\n"
        "│ [ Stop ]\n"
        "╰─"
    )
