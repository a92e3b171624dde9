"""What people write where an expression should stand, and what they meant: other languages' signs, fixed texts."""

from __future__ import annotations

import re

_TEXTS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_FIXED_TEXT = re.compile(r"[^\W\d]\w*[.,!]?(?: [\w.,!&-]+)+")
_HYPHENATED = re.compile(r"[^\W\d]\w*-[^\W\d]\w*")
# Looked for in this order, outside of quoted texts: (pattern, what is wrong, the cure).
_FOREIGN: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), message, hint)
    for pattern, message, hint in (
        ("[\u2018-\u201f]", "typographic quotes do not mark a text", 'write straight ones: "Gold"'),
        ("[\"']", "a quote is not closed", ""),
        (r"\$", "`$` does not stand before a property", "write its name alone: user_name"),
        ("&&", "`&&` is not known here", "write `and`"),
        (r"\|\|", "`||` is not known here", 'write `or`; for what may be missing: user_name | default("there")'),
        (r"\?\?", "`??` is not known here", 'for what may be missing: user_name | default("there")'),
        (r"\?", "`… ? … : …` is not known here", "write `a if b else c`"),
        ("[=!]==", "`===` is not known here", "compare with == or !="),
        ("<>", "`<>` is not known here", "compare with !="),
        ("=[<>]", "`=>` is not known here", "compare with >= or <="),
        (r"!(?=\s*[\w(])", "`!` is not known here", "write `not`"),
        (r"\|\s*\w+\s*:", "the argument of a filter stands in brackets", 'write user_name | default("there")'),
        ("(?<![=!<>])=(?!=)", "the expression should end before `=`", "compare with =="),
        (r"\b(?:AND|OR|NOT|IN|IS)\b", "`and`, `or`, `not`, `in` and `is` are written in small letters", ""),
        (r"\bcontains\b", "`contains` is not known here", 'write "VIP" in user_tags'),
    )
)


def explain_syntax(source: str, said: str) -> str:
    """Return what is wrong with an expression that cannot be read, with its cure; `said` where nothing is known."""
    if "{{" in source or "{%" in source:
        return "{{ }} and {% %} do not belong here; write the expression without them: user_name | upper"
    bare = _TEXTS.sub('""', source)
    for pattern, message, hint in _FOREIGN:
        if pattern.search(bare.replace('""', "")):
            return f"{message}; {hint}" if hint else message
    for opening, closing in ("()", "[]"):
        if bare.count(opening) != bare.count(closing):
            return f"a bracket {opening} {closing} lacks its other half"
    if _FIXED_TEXT.fullmatch(source.strip()):
        return f"`{source.strip()}` is not the name of a property; a fixed text is written {{text: …}}"
    return "the expression ends too early" if "end of" in said else said


def find_hyphen(source: str) -> str | None:
    """Return what is wrong with `product-name`, which would be read as a subtraction; None if nothing is."""
    found = _HYPHENATED.search(_TEXTS.sub('""', source))
    if found is None:
        return None
    before, _, after = found[0].partition("-")
    return (
        f"`{found[0]}` would be {before} minus {after}; a minus has blanks around it, "
        f'and a key with a hyphen is written in brackets: product["{found[0]}"]'
    )
