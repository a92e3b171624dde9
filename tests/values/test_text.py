from __future__ import annotations

import copy
import pickle
import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.values.text import (
    Path,
    SentFloat,
    Unfit,
    clean_text,
    clean_value,
    cut_letters,
    is_blank,
    is_link,
    is_missing,
    is_number,
    is_plain,
    look_up,
    read_amount,
    read_decimal,
    read_path,
    write_path,
    write_scalar,
    write_value,
    write_whole,
)

FAMILY = "👩\u200d👩\u200d👧"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Riya", "Riya"),
        ("  Riya  ", "Riya"),
        ("Riya\nSharma", "Riya Sharma"),
        ("Riya\r\n\r\nSharma", "Riya Sharma"),
        ("Riya\tSharma", "Riya Sharma"),
        ("Riya     Sharma", "Riya Sharma"),
        ("Riya\u2028\u2029Sharma", "Riya Sharma"),
        ("Riya\u00a0\u3000\u2003Sharma", "Riya Sharma"),
        ("Riya\x85\x0b\x0c\x1fSharma", "Riya Sharma"),
        ("Ri\x00ya\x07\x1b\x7f\x9b", "Riya"),
        ("\u202eRiya\u202c \u2066x\u2069\u200e\u200f\u061c", "Riya x"),
        ("Ri\u200bya\u2060\ufeff\u00ad", "Riya"),
        ("a \u200b b", "a b"),
        ("Riya \ud800", "Riya"),
        ("e\u0301", "é"),
        ("रिया शर्मा 🎉", "रिया शर्मा 🎉"),
        ("क्\u200dष", "क्\u200dष"),
        (FAMILY, FAMILY),
        (
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        ),
        ("{{1}} {{7*7}} {% x %} {0.__class__} %n", "{{1}} {{7*7}} {% x %} {0.__class__} %n"),
        ("\u200d\u200c", ""),
        ("\u200b", ""),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_value_is_cleaned(text: str, clean: str) -> None:
    assert clean_value(text) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("x" * 256, "x" * 256),
        ("x" * 257, "x" * 255 + "…"),
        ("x" * 2000, "x" * 255 + "…"),
        ("हि" * 1000, "हि" * 127 + "…"),
        ("x" * 254 + " yz", "x" * 254 + "…"),
        ("x" * 254 + "👍🏽🏽", "x" * 254 + "…"),
        ("x" * 253 + FAMILY, "x" * 253 + "…"),
        ("x" * 254 + "e\u0332\u0332", "x" * 254 + "…"),
        ("x" * 253 + "क्षक", "x" * 253 + "…"),
        ("x" + "\u0332" * 999, "x" + "\u0332" * 222 + "…"),
        ("see https://acme.example/" + "r" * 300, "see…"),
        ("x" * 200 + " https://acme.example/" + "r" * 60, "x" * 200 + "…"),
        ("x" * 200 + " (https://acme.example/" + "r" * 60, "x" * 200 + "…"),
        ("https://acme.example/ " + "x" * 300, "https://acme.example/ " + "x" * 233 + "…"),
        ("https://acme.example/" + "r" * 300, "https://acme.example/" + "r" * 300),
        ("HTTP://acme.example/" + "r" * 300, "HTTP://acme.example/" + "r" * 300),
    ],
)
def test_long_value_is_cut_between_characters_and_before_links(text: str, clean: str) -> None:
    assert clean_value(text) == clean


def test_limit_may_be_another() -> None:
    assert clean_value("x" * 70, 60) == "x" * 59 + "…"


HOSTILE = st.text(st.characters() | st.sampled_from("\u200d\u200c\u0301\u094d\u202e\u2028\u00a0\ud800 🏽👩कषि"))


@given(HOSTILE | HOSTILE.map(lambda text: text * 60))
@example("\u0344" * 300)
@example("HTTP://" + "0" * 300)  # a link is never cut
def test_cleaning_twice_changes_nothing_and_leaves_nothing_hidden(text: str) -> None:
    clean = clean_value(text)
    assert clean_value(clean) == clean
    assert len(clean) <= 256 or is_link(clean)
    assert unicodedata.normalize("NFC", clean) == clean
    assert clean == " ".join(clean.split())
    assert not {unicodedata.category(sign) for sign in clean} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(clean) & set(
        "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\u061c"
    )


class Word(str):
    """A text for which there is no quick way."""

    __slots__ = ()


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from(" .-,'/"), max_size=120)


@given(
    PLAIN | HOSTILE | st.sampled_from(["null", "N/A", "n/a", "[object", "NaN", "-" * 101, "--", "a b"]),
    st.integers(1, 130),
)
def test_quick_way_for_one_word_does_the_same(text: str, limit: int) -> None:
    assert is_missing(text) == is_missing(Word(text))
    assert write_value(text, limit) == write_value(Word(text), limit)


WORDS = st.sampled_from(
    ["Riya", "null", "undefined", "NaN", "None", "N/A", "na", "[object", "a,null", "-", "", "A-1", "x"]
)


@given(PLAIN | HOSTILE | st.lists(WORDS, max_size=4).map(" ".join))
def test_plain_text_is_neither_missing_nor_shown_in_another_way(text: str) -> None:
    if is_plain(text):
        assert not is_missing(Word(text))
        assert not is_blank(text)
        assert clean_text(text + "\u200b") == text
        assert write_whole(text) == text


@pytest.mark.parametrize("text", ["Riya", "Riya Sharma", "9800000001", "1,250", "A-0001", "https://acme.example/a?b=c"])
def test_most_texts_are_plain(text: str) -> None:
    assert is_plain(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300))
def test_quick_way_for_plain_text_does_the_same(text: str) -> None:
    assert clean_text(text) == clean_text(text + "\u200b")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "\t\n",
        "\u00a0",
        "\u200b",
        "\u202e\ufeff",
        "\x00",
        "\u200d",
        "null",
        "undefined",
        "NaN",
        "nan",
        " null ",
        "nu\u200bll",
        "null null",
        "undefined undefined",
        "None None",
        "NULL NULL",
        "NA NA",
        "N/A",
        "n/a",
        "nan nan",
        "null, null",
        "Riya null",
        "Riya undefined",
        "Riya N/A",
        "null Sharma",
        "undefined, Riya",
        "Riya null Sharma",
        "Riya Devi null",
        "[object Object]",
        "Riya [object Object]",
        "[object Undefined]",
        ".",
        "-",
        "--",
        "?",
        "\u2014",
        "...",
        "\u2026",
        "()",
        "\u3164",
        "\u3164\u3164",
        "\u2800",
        "\ufe0f",
        "\u200b\ufe0f\u200d",
        "रिया null",
        float("nan"),
    ],
)
def test_these_values_are_missing(value: Any) -> None:
    assert is_missing(value)


@pytest.mark.parametrize("value", [None, "", " ", "null", "undefined", "\u200b", "\u3164", float("nan")])
def test_nothing_is_blank_and_missing(value: Any) -> None:
    assert is_blank(value)
    assert is_missing(value)


@pytest.mark.parametrize("value", ["-", "N/A", "Riya null", "[object Object]", "Riya", 0, "x" * 300, "हि" * 100])
def test_what_a_yaml_may_show_instead_is_not_blank(value: Any) -> None:
    assert not is_blank(value)


@pytest.mark.parametrize(
    "value",
    [
        *("Jennifer Null", "Riya None", "Nana", "NA", "Na", "Butter nan", "nullable", "Null Island", "undefinedness"),
        *("$", "%", "+", "*****", "#1", "₹", "5-", "A.", "🎉", "❤\ufe0f", "李", "O'Brien", "रिया", "x@acme.example"),
        *("the value of this long title is null", "Riya " + "x" * 100 + " null", "[objects]"),
    ],
)
def test_names_and_signs_that_mean_something_are_there(value: str) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("text", "end", "cut"),
    [
        ("Riya", 2, "Ri"),
        ("Riya", 4, "Riya"),
        ("Riya", 9, "Riya"),
        ("Riya", 0, ""),
        ("Riya", -3, ""),
        ("हिन्दुस्तानी", 2, "हि"),
        ("हिन्दुस्तानी", 1, ""),
        ("🇮🇳🇮🇳", 1, ""),
        ("🇮🇳🇮🇳", 2, "🇮🇳"),
        ("🇮🇳🇮🇳", 3, "🇮🇳"),
        ("a🇮🇳", 2, "a"),
        ("🏴\U000e0067\U000e0062\U000e007fx", 2, ""),
        (FAMILY, 3, ""),
    ],
)
def test_text_is_cut_between_what_people_take_for_letters(text: str, end: int, cut: str) -> None:
    assert cut_letters(text, end) == cut


@pytest.mark.parametrize(
    "value", [0, False, "0", "false", "None", "Null", "NULL", [], {}, 0.0, "रिया", "a\nb", FAMILY, float("inf")]
)
def test_these_values_are_there(value: Any) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Riya", "Riya"),
        (True, "true"),
        (False, "false"),
        (100, "100"),
        (SentFloat("199.50"), "199.50"),
        (200.0, "200"),
        (199.5, "199.5"),
        (-0.0, "0"),
        (1e300, "1e+300"),
        (float("nan"), ""),
        (float("inf"), ""),
        (None, ""),
        ("…", "…"),
        ("https://acme.example/" + "r" * 979, "https://acme.example/" + "r" * 979),
    ],
)
def test_value_is_written(value: Any, text: str) -> None:
    assert write_value(value) == text


@pytest.mark.parametrize(
    "value",
    [[], ["a"], {}, {"a": 1}, "https://acme.example/" + "r" * 980, "https://acme.example/" + "r" * 400 + " x"],
)
def test_some_values_fit_no_message(value: Any) -> None:
    fault = write_value(value)
    assert isinstance(fault, Unfit)
    assert "acme" not in fault.detail


def test_whole_value_is_never_cut() -> None:
    assert write_whole("x " * 500) == ("x " * 500).strip()
    assert isinstance(write_whole("x" * 1001), Unfit)
    assert isinstance(write_whole([]), Unfit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://acme.example", True),
        ("http://x", True),
        ("ftp://x", False),
        ("https://", False),
        ("https://a b", False),
    ],
)
def test_what_a_link_is(text: str, expected: bool) -> None:
    assert is_link(text) is expected


def test_lists_and_objects_have_no_text() -> None:
    assert (write_scalar([]), write_scalar({}), write_scalar(None)) == (None, None, "")


def test_sent_float_keeps_its_text() -> None:
    number = SentFloat("199.50")
    assert (str(number), f"{number}", number + 1) == ("199.50", "199.50", 200.5)
    assert str(copy.deepcopy(number)) == "199.50"
    assert str(pickle.loads(pickle.dumps(number))) == "199.50"  # noqa: S301 - our own bytes
    with pytest.raises(ValueError, match="could not convert"):
        SentFloat("abc")


@pytest.mark.parametrize(("value", "expected"), [(1, True), (1.5, True), (True, False), ("1", False), (None, False)])
def test_what_a_number_is(value: Any, expected: bool) -> None:
    assert is_number(value) is expected


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("100", "100"),
        (" -0.50 ", "-0.50"),
        ("+7", "7"),
        (100, "100"),
        (199.5, "199.5"),
        (SentFloat("199.50"), "199.50"),
        (SentFloat("1e3"), "1000"),
        (SentFloat("1e-999999999"), "0"),
        (10**40, str(10**40)),
    ],
)
def test_exact_numbers_are_read(value: Any, number: str) -> None:
    assert read_decimal(value) == Decimal(number)


@pytest.mark.parametrize(
    "value",
    ["", "1,000", "1e5", "abc", "1.", ".5", "٣", "²", "9" * 31, "nan", True, None, [1], float("nan"), float("inf")],
)
def test_what_is_no_number_is_not_guessed(value: Any) -> None:
    assert read_decimal(value) is None


@pytest.mark.parametrize(
    ("value", "locale", "number"),
    [
        ("1,250", "en_IN", "1250"),
        ("1,00,000", "en_IN", "100000"),
        ("12,34,567.50", "en_IN", "1234567.50"),
        ("1,234,567", "en_IN", "1234567"),
        ("₹1,250.00", "en_IN", "1250.00"),
        ("₹ 1,250/-", "en_IN", "1250"),
        ("Rs. 500", "en_IN", "500"),
        ("Rs 1,250", "en_IN", "1250"),
        ("INR 500", "en_IN", "500"),
        ("500 INR", "en_IN", "500"),
        ("-₹5", "en_IN", "-5"),
        ("\u22125", "en_IN", "-5"),
        ("US$20.50", "en_IN", "20.50"),
        ("1 250", "en_IN", "1250"),
        ("1\u00a0250", "fr_FR", "1250"),
        ("1\u202f250,50 €", "fr_FR", "1250.50"),
        ("1'250.50", "de_CH", "1250.50"),
        ("१२५०", "hi_IN", "1250"),
        ("१,२५०", "hi_IN", "1250"),
        ("1.250,00", "de_DE", "1250.00"),
        ("1.234.567", "de_DE", "1234567"),
        ("12,5", "de_DE", "12.5"),
        ("1,00,000", "de_DE", "100000"),
        ("1,250.00", "de_DE", "1250.00"),
        ("100", "de_DE", "100"),
        (100, "de_DE", "100"),
        (SentFloat("1e3"), "en_IN", "1000"),
    ],
)
def test_amounts_are_read_as_people_write_them(value: Any, locale: str, number: str) -> None:
    assert read_amount(value, locale) == Decimal(number)


@pytest.mark.parametrize(
    ("value", "locale"),
    [
        ("1,250", "de_DE"),  # 1250 or 1.25
        ("1,25", "en_IN"),
        ("12,50", "en_IN"),
        ("1,2,3", "en_IN"),
        ("1,0000", "en_IN"),
        ("1.250,00", "en_IN"),
        ("1 25", "en_IN"),
        ("100 coins", "en_IN"),
        ("a lot", "en_IN"),
        ("1e3", "en_IN"),
        ("", "en_IN"),
        ("₹", "en_IN"),
        (True, "en_IN"),
        ([100], "en_IN"),
        (None, "en_IN"),
    ],
)
def test_amounts_with_two_readings_or_none_are_not_guessed(value: Any, locale: str) -> None:
    assert read_amount(value, locale) is None


PAYLOAD = {
    "customer": {"name": "Riya", "items": 3, "note": " "},
    "list": ["a", {"b": "c"}, None],
    "0": "nought",
    "no": "null",
    "zero": 0,
    "flag": False,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("customer", "name"), "Riya"),
        (("customer", "items"), 3),
        (("customer", "keys"), None),
        (("customer", "note"), None),
        (("customer", "name", "upper"), None),
        (("customer", "name", 0), None),
        (("list", 0), "a"),
        (("list", -1), None),
        (("list", -2, "b"), "c"),
        (("list", 3), None),
        (("list", -4), None),
        (("list", "0"), None),
        (("list", "append"), None),
        (("0",), "nought"),
        ((0,), None),
        (("no",), None),
        (("zero",), 0),
        (("flag",), False),
        (("nobody", "name"), None),
    ],
)
def test_path_leads_to_keys_and_indexes_only(path: Path, value: Any) -> None:
    assert look_up(PAYLOAD, path) == value


@pytest.mark.parametrize("path", [("customer", "name"), ("items", 0, "name"), ("items", -1), ("a",)])
def test_written_path_reads_back(path: Path) -> None:
    assert read_path(write_path(path)) == path
