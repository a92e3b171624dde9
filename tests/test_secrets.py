"""The file of secrets: what each line means, and which are wrong."""

from __future__ import annotations

import pytest

from app.files import Secret, list_active, read_secrets

DAY = 86_400_000
NEW_YEAR_2027 = 1_798_761_600_000  # 2027-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("one", (Secret("one"),)),
        ("one\r\ntwo\r\n", (Secret("one"), Secret("two"))),
        (" one , two,,\n\n", (Secret("one"), Secret("two"))),
        ("# was: one\n  # two\nthree", (Secret("three"),)),
        ("\ufeffone", (Secret("one"),)),
        ("one until=2026-12-31", (Secret("one", NEW_YEAR_2027),)),
        ("one\tuntil=2026-12-31, two", (Secret("one", NEW_YEAR_2027), Secret("two"))),
        ("pass#word=1", (Secret("pass#word=1"),)),
        ("one until=9999-12-31", (Secret("one", 253_402_300_800_000),)),
    ],
)
def test_a_text_names_its_secrets(text: str, expected: tuple[Secret, ...]) -> None:
    assert read_secrets(text) == expected


@pytest.mark.parametrize(
    "line",
    [
        "canary two",
        "canary until=2026-13-01",
        "canary until=2026-02-29",
        "canary until=31.12.2026",
        "canary until=",
        "canary until = 2026-12-31",
        "canary until=2026-12-31 x",
        "until=2026-12-31",
        "cana\x00ry",
    ],
)
def test_a_line_that_is_wrong_is_named_and_not_shown(line: str) -> None:
    with pytest.raises(ValueError, match="line 2: write the secret alone") as caught:
        read_secrets(f"fine\n{line}\n")
    assert "canary" not in str(caught.value)


def test_a_secret_holds_to_the_end_of_its_day_and_each_once() -> None:
    secrets = read_secrets("a until=2026-12-31\nb\na until=2026-12-30\nb")
    assert list_active(secrets, NEW_YEAR_2027 - DAY - 1) == ("a", "b")
    assert list_active(secrets, NEW_YEAR_2027 - 1) == ("a", "b")
    assert list_active(secrets, NEW_YEAR_2027) == ("b",)


def test_a_secret_is_not_shown() -> None:
    assert "canary" not in repr(Secret("canary"))
