"""The word by which a person is greeted."""

from __future__ import annotations

import re

from app.values.text import clean_text

_TITLES = frozenset(
    (
        *("mr", "mrs", "ms", "miss", "mx", "master", "sir", "madam", "dr", "prof", "er", "adv", "ca", "capt", "col"),
        *("maj", "gen", "lt", "shri", "shree", "sri", "smt", "shrimati", "kumari", "herr", "frau", "mme", "mlle"),
        *("श्री", "श्रीमती", "सुश्री", "डॉ", "डॉक्टर", "कुमारी"),
    )
)
_EDGES = " ,;\"'()"
_LETTER = re.compile(r"[^\W\d_]\.?")


def find_first_name(text: str) -> str:
    """Return the first word that is neither a title nor initials; the whole text where there is none.

    A single sign of a writing without capitals may be a whole name: 李.
    """
    whole = clean_text(text)
    words = (word.strip(_EDGES) for word in whole.replace(".", ". ").split(" "))  # Dr.Sen
    return next((word for word in words if _is_name(word)), whole)


def _is_name(word: str) -> bool:
    if not word or word.rstrip(".").casefold() in _TITLES:
        return False
    return _LETTER.fullmatch(word) is None or (len(word) == 1 and word.upper() == word.lower())
