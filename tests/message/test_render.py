from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mapping.fields import ButtonSource, Constant, HeaderSource, RecipientFields, Source, VariableSource
from app.mapping.grammar import ExpressionCompiler
from app.mapping.rules import Route, Store
from app.message.components import encode_suffix
from app.message.render import Unrendered, compute_deadline, compute_dedup_key, render_message
from app.model.delivery import Reason
from app.model.event import Event
from app.model.message import Button, Header, Location, Message, Variable
from app.sources.base import parse_body

STORE = Store()
COMPILER = ExpressionCompiler(STORE.country, STORE.timezone, STORE.locale)
NOW = 1_790_000_000_000
PHONE = {"user_mobile": "9800000001"}


def read_source(source: str | Constant) -> Source:
    return source if isinstance(source, Constant) else COMPILER.compile(source)


def make_route(*variables: str | Constant, **others: Any) -> Route:
    sources = tuple(VariableSource(None, read_source(source)) for source in variables)
    return Route.model_construct(
        name="r", event="coupon_create", provider="gallabox", template="tpl", variables=sources, **others
    )


def make_event(**payload: Any) -> Event:
    return Event("e1", "nector", "coupon_create", "d1", b"{}", payload, NOW)


def render_one(source: str | Constant, **payload: Any) -> str | Unrendered:
    message = render_message(make_route(source), make_event(**PHONE | payload), STORE)
    return message if isinstance(message, Unrendered) else message.variables[0].value


def test_message_is_rendered_as_the_design_says() -> None:
    route = make_route('user_name | default("there")', "value", 'expire | date("d MMM")', language="en")
    payload = {"user_name": "Riya", "value": "ACME-7Q2P", "expire": "2026-12-31T18:29:59Z"}
    assert render_message(route, make_event(**PHONE, **payload), STORE) == Message(
        recipient="+919800000001",
        template="tpl",
        recipient_name="Riya",
        language="en",
        variables=(Variable(None, "Riya"), Variable(None, "ACME-7Q2P"), Variable(None, "31 Dec")),
    )


def test_variables_keep_their_names_and_order() -> None:
    route = make_route()
    named = (VariableSource("b", Constant(text=" Acme ")), VariableSource("a", COMPILER.compile("amount")))
    message = render_message(route.model_copy(update={"variables": named}), make_event(**PHONE, amount=5), STORE)
    assert isinstance(message, Message)
    assert message.variables == (Variable("b", "Acme"), Variable("a", "5"))


# -- values: failure story T12 --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (r'"Riya\nSharma"', "Riya Sharma"),
        (r'"Riya\tSharma"', "Riya Sharma"),
        ('"Riya     Sharma"', "Riya Sharma"),
        ('"रिया 🎉"', "रिया 🎉"),
        ('"' + "x" * 2000 + '"', "x" * 255 + "…"),
        ('"{{1}}"', "{{1}}"),
        ('"{{7*7}}"', "{{7*7}}"),
        ('"{{ config }} {% x %} {0.__class__} %n ${A}"', "{{ config }} {% x %} {0.__class__} %n ${A}"),
        ("199.50", "199.50"),
        ("100", "100"),
        ("0", "0"),
        ("-0", "-0"),
        ("1e2", "1e2"),
        ("12345678901234567890", "12345678901234567890"),
        ("true", "true"),
        ("false", "false"),
        (r'"\u202eRiya\u0000"', "Riya"),
    ],
)
def test_value_is_shown_as_sent_but_fit_for_whatsapp(raw: str, shown: str) -> None:
    payload = parse_body(f'{{"x": {raw}}}'.encode())
    assert isinstance(payload, dict)
    assert render_one("x", **payload) == shown


@pytest.mark.parametrize("value", [None, "", "   ", "null", "undefined", "NaN", "\u200b", "\n", float("nan")])
def test_missing_value_stops_the_message_unless_a_default_is_written(value: Any) -> None:
    assert render_one("x", x=value) == Unrendered(Reason.VARIABLE_MISSING, "variable 1 (`x`) is missing")
    assert render_one('x | default("there")', x=value) == "there"


def test_absent_value_stops_the_message() -> None:
    assert render_one("amount") == Unrendered(Reason.VARIABLE_MISSING, "variable 1 (`amount`) is missing")
    assert render_one(Constant(text=" ")) == Unrendered(Reason.VARIABLE_MISSING, "variable 1 (` `) is missing")
    assert render_one("x", x=float("inf")) == Unrendered(Reason.VARIABLE_MISSING, "variable 1 (`x`) is missing")


@pytest.mark.parametrize(
    ("source", "value", "reason", "detail"),
    [
        ("x", ["a"], Reason.VARIABLE_INVALID, "variable 1 (`x`) is a list or an object, not a single value"),
        ("x", {"a": 1}, Reason.VARIABLE_INVALID, "variable 1 (`x`) is a list or an object, not a single value"),
        ("x | date", "soon", Reason.VARIABLE_INVALID, "variable 1 (`x`) is not a date"),
        ("x + 1", "soon", Reason.EXPRESSION_FAILED, "variable 1 cannot be worked out: `x + 1`: `+` needs numbers"),
        ("x", "https://acme.example/" + "r" * 990, Reason.VARIABLE_INVALID, "variable 1 (`x`) holds a link"),
    ],
)
def test_unfit_value_stops_the_message(source: str, value: Any, reason: Reason, detail: str) -> None:
    found = render_one(source, x=value)
    assert isinstance(found, Unrendered)
    assert found.reason is reason
    assert found.detail.startswith(detail)


def test_every_faulty_variable_is_named() -> None:
    route = make_route("a", "b", "c | date")
    assert render_message(route, make_event(**PHONE, b="x", c="soon"), STORE) == Unrendered(
        Reason.VARIABLE_MISSING, "variable 1 (`a`) is missing; variable 3 (`c`) is not a date"
    )


def test_faulty_variable_is_called_by_its_name_if_it_has_one() -> None:
    variables = (VariableSource("coins", COMPILER.compile("amount")),)
    route = make_route().model_copy(update={"variables": variables})
    assert render_message(route, make_event(**PHONE), STORE) == Unrendered(
        Reason.VARIABLE_MISSING, "variable coins (`amount`) is missing"
    )


# -- recipient ------------------------------------------------------------------------------------


def test_missing_recipient_wins_over_missing_variable() -> None:
    assert render_message(make_route("amount"), make_event(), STORE) == Unrendered(
        Reason.RECIPIENT_MISSING, "the event names no mobile number"
    )
    found = render_message(make_route("amount"), make_event(user_mobile="980"), STORE)
    assert isinstance(found, Unrendered)
    assert found.reason is Reason.RECIPIENT_INVALID


def test_route_may_name_the_recipient() -> None:
    route = make_route(recipient=RecipientFields.model_construct(number=COMPILER.compile("friend.mobile")))
    message = render_message(route, make_event(**PHONE, friend={"mobile": "9800000002"}), STORE)
    assert isinstance(message, Message)
    assert message.recipient == "+919800000002"


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({"user_name": "Riya", "name": "Asha"}, "Riya"),
        ({"user_name": " ", "customer": {"name": "Asha\n"}}, "Asha"),
        ({"name": "Asha"}, "Asha"),
        ({"lead": {"name": "Asha"}}, "Asha"),
        ({"user_name": ["Riya"], "name": "Asha"}, "Asha"),
        ({"user_name": "x" * 100}, "x" * 59 + "…"),
        ({}, ""),
    ],
)
def test_recipient_name_is_found_or_empty(payload: dict[str, Any], name: str) -> None:
    message = render_message(make_route(), make_event(**PHONE, **payload), STORE)
    assert isinstance(message, Message)
    assert message.recipient_name == name


# -- header and buttons ---------------------------------------------------------------------------


def render_header(
    kind: Any, source: str, filename: str | None = None, **payload: Any
) -> Header | Location | Unrendered | None:
    parts: dict[str, Any] = {kind: read_source(source)}
    header = HeaderSource.model_construct(**parts | ({} if filename is None else {"filename": read_source(filename)}))
    message = render_message(make_route(header=header), make_event(**PHONE, **payload), STORE)
    return message if isinstance(message, Unrendered) else message.header


def test_header_is_rendered() -> None:
    assert render_header("image", "x", x=" https://cdn.example/a.png ") == Header("image", "https://cdn.example/a.png")
    assert render_header("text", "x", x="Hi\nRiya") == Header("text", "Hi Riya")
    assert render_header("text", "x", x="y" * 61) == Header("text", "y" * 59 + "…")
    document = render_header("document", "x", "user_name ~ '.pdf'", x="http://cdn.example/b", user_name="Riya")
    assert document == Header("document", "http://cdn.example/b", "Riya.pdf")
    long_link = "https://cdn.example/" + "r" * 900
    assert render_header("video", "x", x=long_link) == Header("video", long_link)


@pytest.mark.parametrize(
    "address",
    [
        "cdn.example/a.png",
        "ftp://cdn.example/a",
        "javascript:alert(1)",
        "https://",
        "https:///a",
        "http://[",
        "https://a b",
    ],
)
def test_media_header_has_to_be_a_web_address(address: str) -> None:
    assert render_header("image", "x", x=address) == Unrendered(
        Reason.VARIABLE_INVALID, "the image header (`x`) is no http(s) address"
    )


@pytest.mark.parametrize(
    ("kind", "payload", "reason", "detail"),
    [
        ("image", {}, Reason.VARIABLE_MISSING, "the image header (`x`) is missing"),
        ("image", {"x": "\u200b"}, Reason.VARIABLE_MISSING, "the image header (`x`) is missing"),
        ("image", {"x": []}, Reason.VARIABLE_INVALID, "the image header (`x`) is a list"),
        ("image", {"x": "https://" + "x" * 1000}, Reason.VARIABLE_INVALID, "the image header (`x`) is longer"),
        ("text", {"x": "https://" + "x" * 60}, Reason.VARIABLE_INVALID, "the text header (`x`) is a link too long"),
        ("text", {"x": []}, Reason.VARIABLE_INVALID, "the text header (`x`) is a list"),
    ],
)
def test_unfit_header_stops_the_message(kind: Any, payload: dict[str, Any], reason: Reason, detail: str) -> None:
    found = render_header(kind, "x", **payload)
    assert isinstance(found, Unrendered)
    assert found.reason is reason
    assert found.detail.startswith(detail)


def test_missing_file_name_stops_the_message() -> None:
    found = render_header("document", "x", "nobody", x="https://cdn.example/a")
    assert found == Unrendered(Reason.VARIABLE_MISSING, "the header's file name (`nobody`) is missing")


def test_missing_media_address_of_a_constant_is_missing() -> None:
    header = HeaderSource.model_construct(image=Constant(text=" "))
    found = render_message(make_route(header=header), make_event(**PHONE), STORE)
    assert found == Unrendered(Reason.VARIABLE_MISSING, "the image header (` `) is missing")


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("ACME-7Q2P", "ACME-7Q2P"),
        ("redeem/ACME?x=1&y=2#top", "redeem/ACME?x=1&y=2#top"),
        ("a b", "a%20b"),
        ("रिया", "%E0%A4%B0%E0%A4%BF%E0%A4%AF%E0%A4%BE"),
        ("a%20b", "a%20b"),
        ("50% off", "50%25%20off"),
        ("100%", "100%25"),
        ("%zz", "%25zz"),
        ('"<>\\^`{|}', "%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("https://shop.example/r?e=1", "https://shop.example/r?e=1"),
    ],
)
def test_button_suffix_is_encoded_once(text: str, suffix: str) -> None:
    assert encode_suffix(text) == suffix
    assert encode_suffix(suffix) == suffix


def test_buttons_are_rendered_whole_or_not_at_all() -> None:
    buttons = (
        ButtonSource.model_construct(index=0, url=read_source('"r/" ~ value | urlencode')),
        ButtonSource.model_construct(index=1, url=Constant(text="a b")),
    )
    route = make_route(buttons=buttons)
    message = render_message(route, make_event(**PHONE, value="a&b"), STORE)
    assert isinstance(message, Message)
    assert message.buttons == (Button(0, "r/a%26b"), Button(1, "a%20b"))
    assert render_message(route, make_event(**PHONE), STORE) == Unrendered(
        Reason.VARIABLE_MISSING, "button 0 (`value`) is missing"
    )
    long = render_message(route, make_event(**PHONE, value="x" * 999), STORE)
    assert isinstance(long, Unrendered)
    assert long.reason is Reason.VARIABLE_INVALID


# -- deadline -------------------------------------------------------------------------------------

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("expire", "deadline"),
    [
        (NOW + HOUR, NOW + HOUR),
        (str((NOW + HOUR) // 1000), NOW + HOUR),
        (NOW + 48 * HOUR, NOW + 24 * HOUR),
        (NOW - HOUR, NOW - HOUR),
        ("2026-09-21", 1_790_015_400_000),  # until that day is over in Kolkata
        ("9999-12-31", NOW + 24 * HOUR),
    ],
)
def test_deadline_is_the_earlier_of_the_two(expire: Any, deadline: int) -> None:
    route = make_route(valid_until=COMPILER.compile("expire"))
    assert compute_deadline(route, make_event(expire=expire), STORE) == deadline


def test_deadline_without_valid_until_is_valid_for() -> None:
    assert compute_deadline(make_route(valid_for=7), make_event(), STORE) == NOW + 7


@pytest.mark.parametrize(
    ("source", "payload", "detail"),
    [
        ("expire", {}, "valid_until (`expire`) is missing"),
        ("expire", {"expire": "null"}, "valid_until (`expire`) is missing"),
        ("expire", {"expire": "soon"}, "valid_until (`expire`) is not a date"),
        ("expire", {"expire": "31/12/2026"}, "valid_until (`expire`) is not a date"),
        ("expire", {"expire": True}, "valid_until (`expire`) is not a date"),
        ("expire", {"expire": ["2026-12-31"]}, "valid_until (`expire`) is not a date"),
        ("expire + 1", {"expire": "x"}, "valid_until cannot be worked out: `expire + 1`"),
    ],
)
def test_unreadable_deadline_is_a_fault_not_no_deadline(source: str, payload: dict[str, Any], detail: str) -> None:
    found = compute_deadline(make_route(valid_until=COMPILER.compile(source)), make_event(**payload), STORE)
    assert isinstance(found, Unrendered)
    assert found.reason is Reason.DEADLINE_INVALID
    assert found.detail.startswith(detail)


# -- dedup key ------------------------------------------------------------------------------------


def find_key(source: str, **payload: Any) -> str | Unrendered | None:
    return compute_dedup_key(make_route(dedup_by=COMPILER.compile(source)), make_event(**payload))


def test_route_without_dedup_by_has_no_key() -> None:
    assert compute_dedup_key(make_route(), make_event()) is None


@pytest.mark.parametrize(
    ("source", "payload", "key"),
    [
        ("x", {"x": "ACME-7Q2P"}, "ACME-7Q2P"),
        ("x", {"x": " ACME-7Q2P\n"}, "ACME-7Q2P"),
        ("x", {"x": 200}, "200"),
        ("x", {"x": "200"}, "200"),
        ("x", {"x": True}, "true"),
        ("x", {"x": {"b": 1, "a": [True]}}, '{"a":["true"],"b":"1"}'),
        ("[x, y]", {"x": "1", "y": 23}, '["1","23"]'),
        ("(x, y)", {"x": "12", "y": "3"}, '["12","3"]'),
        ("x", {"x": '["1","23"]'}, json.dumps('["1","23"]')),
    ],
)
def test_key_is_the_text_of_the_value(source: str, payload: dict[str, Any], key: str) -> None:
    assert find_key(source, **payload) == key


def test_long_keys_are_hashed_and_stay_apart() -> None:
    keys = {find_key("x", x="k" * 300 + end) for end in "ab"}
    assert len(keys) == 2
    assert all(isinstance(key, str) and len(key) == 71 for key in keys)


@pytest.mark.parametrize(
    ("source", "payload", "reason", "detail"),
    [
        ("x", {}, Reason.VARIABLE_MISSING, "dedup_by (`x`) is missing"),
        ("x | date", {"x": "soon"}, Reason.VARIABLE_INVALID, "dedup_by (`x`) is not a date"),
        ("x + 1", {"x": "a"}, Reason.EXPRESSION_FAILED, "dedup_by cannot be worked out: `x + 1`"),
    ],
)
def test_key_that_cannot_be_had_is_a_fault(source: str, payload: dict[str, Any], reason: Reason, detail: str) -> None:
    found = find_key(source, **payload)
    assert isinstance(found, Unrendered)
    assert found.reason is reason
    assert found.detail.startswith(detail)


KEYS = st.recursive(st.text(max_size=8), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=5)


@pytest.mark.untraced
@given(KEYS, KEYS)
def test_different_values_have_different_keys(one: Any, other: Any) -> None:
    keys = [find_key("x", x=value) for value in (one, other)]
    if isinstance(one, list) and isinstance(other, list):
        assert (keys[0] == keys[1]) is (one == other)
    elif isinstance(one, list) or isinstance(other, list):
        assert keys[0] != keys[1]


# -- any event ------------------------------------------------------------------------------------

FULL = make_route(
    "a",
    "b | default('x')",
    header=HeaderSource.model_construct(document=read_source("c"), filename=read_source("a")),
    buttons=(ButtonSource.model_construct(index=0, url=read_source("b")),),
    valid_until=COMPILER.compile("a"),
    dedup_by=COMPILER.compile("[a, b]"),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["https://a.example", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.untraced
@given(st.dictionaries(st.sampled_from(["a", "b", "c", "user_mobile", "customer", "user_name", "country"]), VALUES))
def test_rendering_never_raises(payload: dict[str, Any]) -> None:
    for event in (make_event(**payload), make_event(**payload | PHONE)):
        assert isinstance(render_message(FULL, event, STORE), Message | Unrendered)
        assert isinstance(compute_deadline(FULL, event, STORE), int | Unrendered)
        assert isinstance(compute_dedup_key(FULL, event), str | Unrendered)
