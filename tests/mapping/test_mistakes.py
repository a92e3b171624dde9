from __future__ import annotations

import pytest

from app.mapping.grammar import ExpressionCompiler, ExpressionError
from app.mapping.mistakes import explain_syntax, find_hyphen

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
