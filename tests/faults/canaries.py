"""Canaries: invented customers and secrets that nobody could have written by chance, and how they are found again."""

from __future__ import annotations

import hashlib
import random
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass, field

_WORD = re.compile(r"qzx[0-9a-z]{9}", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9](?:[ .-]?[0-9]){9,}")
_EXAMPLE_NUMBER = re.compile(r"98000 ?000[0-9]{2}")
SHARED = "9800000098"  # an example number for all whose message never comes to be
_RUN = 12  # digits of a number that is none: longer than any real one without its country code


@dataclass
class Canaries:
    """What was let out, drawn from a seed. Names and codes are words, numbers that are none are runs of digits."""

    draw: random.Random
    secrets: list[str] = field(default_factory=list)
    _words: set[str] = field(default_factory=set)
    _runs: set[str] = field(default_factory=set)
    _numbers: set[str] = field(default_factory=lambda: {SHARED})

    @property
    def count(self) -> int:
        return len(self._words) + len(self._runs) + len(self._numbers) + len(self.secrets)

    def new_name(self) -> str:
        return self._new_word(string.ascii_lowercase).capitalize()

    def new_code(self) -> str:
        return self._new_word(string.ascii_lowercase + string.digits).upper()

    def new_secret(self) -> str:
        secret = self.new_name() + self.new_code()
        self.secrets.append(secret)
        return secret

    def new_run(self) -> str:
        """Return twelve digits that are no number anywhere: none begins with 000."""
        run = "000" + "".join(self.draw.choices(string.digits, k=_RUN - 3))
        self._runs.add(run)
        return run

    def new_number(self) -> str:
        """Return an example number that is valid. There are few; the first ones stand in our own descriptions."""
        number = f"98000000{20 + len(self._numbers)}"
        self._numbers.add(number)
        return number

    def find(self, texts: Iterable[str]) -> set[str]:
        """Return what of the canaries stands in the texts, in capitals or not, with gaps or not."""
        found: set[str] = set()
        hashes = {hashlib.sha256(secret.encode()).hexdigest(): secret for secret in self.secrets}
        for text in texts:
            found |= {word.lower() for word in _WORD.findall(text)} & self._words
            found |= {number.replace(" ", "") for number in _EXAMPLE_NUMBER.findall(text)} & self._numbers
            for digits in _DIGITS.findall(text):
                bare = re.sub("[^0-9]", "", digits)
                found |= {bare[at : at + _RUN] for at in range(len(bare) - _RUN + 1)} & self._runs
            found |= {f"hash of {secret}" for hashed, secret in hashes.items() if hashed in text}
        return found

    def _new_word(self, letters: str) -> str:
        word = "qzx" + "".join(self.draw.choices(letters, k=9))
        self._words.add(word)
        return word
