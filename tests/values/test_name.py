from __future__ import annotations

import pytest

from app.values.text import find_first_name


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Riya Sharma", "Riya"),
        ("Riya", "Riya"),
        ("  Riya   Sharma ", "Riya"),
        ("Mr. Kabir Sen", "Kabir"),
        ("MR KABIR SEN", "KABIR"),
        ("Dr.Asha Rao", "Asha"),
        ("Prof. Dr. Asha Rao", "Asha"),
        ("Smt Asha", "Asha"),
        ("Shri Ram Prasad", "Ram"),
        ("S. Ramesh", "Ramesh"),
        ("R.K. Sharma", "Sharma"),
        ("R K Sharma", "Sharma"),
        ("श्रीमती रिया शर्मा", "रिया"),
        ("रिया शर्मा", "रिया"),
        ("क्षत्रिय सिंह", "क्षत्रिय"),
        ("李 明", "李"),
        ("Anne-Marie Petit", "Anne-Marie"),
        ("O'Brien", "O'Brien"),
        ("Sharma, Riya", "Sharma"),
        ("Riya (Work)", "Riya"),
        ("🎉 Riya", "🎉"),
        # Where nothing else is left, what there is.
        ("Mr", "Mr"),
        ("Dr. R.", "Dr. R."),
        ("R", "R"),
        ("", ""),
    ],
)
def test_first_name_is_the_first_word_that_is_one(name: str, first: str) -> None:
    assert find_first_name(name) == first
