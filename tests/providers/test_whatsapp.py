from __future__ import annotations

import csv
from pathlib import Path

import pytest

from app.model.delivery import Reason, Scope
from app.providers.trouble import META_CODES, find_meta_code

ROOT = Path(__file__).parents[2]
RETRIED = {2, 4, 17, 613, 80007, 80008, 130429, 131056, 132069, 133016}
RETRIED |= {131000, 131016, 131057, 133004, 135000, 131049}


def list_public_codes() -> list[int]:
    """The codes of public copies of Meta's page, older ones among them: facts, kept beside their titles."""
    text = (ROOT / "tests/fixtures/meta_error_codes.csv").read_text()
    return [int(row["code"]) for row in csv.DictReader(text.splitlines())]


@pytest.mark.parametrize("code", list_public_codes())
def test_every_code_of_metas_page_has_a_meaning(code: int) -> None:
    assert code in META_CODES


@pytest.mark.parametrize("code", sorted(META_CODES))
def test_only_what_may_pass_later_is_retried(code: int) -> None:
    assert META_CODES[code].retry is (code in RETRIED)


@pytest.mark.parametrize(
    ("codes", "reason", "scope"),
    [
        ([0, 3, 10, 190, 200, 299, 131005], Reason.CREDENTIALS_REFUSED, Scope.PROVIDER),
        ([4, 17, 613, 80007, 80008, 130429, 133016], Reason.RATE_LIMITED, Scope.PROVIDER),
        ([132069], Reason.RATE_LIMITED, Scope.MESSAGE),
        ([131056], Reason.RATE_LIMITED, Scope.RECIPIENT),
        ([131048, 131064, 368, 131031, 130497, 131045], Reason.ACCOUNT_BLOCKED, Scope.PROVIDER),
        (
            [33, 131037, 133000, 133005, 133006, 133007, 133008, 133009, 133010, 133015, 134011],
            Reason.ACCOUNT_BLOCKED,
            Scope.PROVIDER,
        ),
        ([131042], Reason.BALANCE_EMPTY, Scope.PROVIDER),
        ([131000, 135000], Reason.SERVER_ERROR, Scope.MESSAGE),
        ([2, 131016, 131057, 133004], Reason.UNAVAILABLE, Scope.PROVIDER),
        (
            [100, 131008, 131009, 131021, 131051, 131052, 131053, 132005, 132008, 132012, 132018],
            Reason.PARAMETERS_REFUSED,
            Scope.MESSAGE,
        ),
        ([132000], Reason.PARAMETERS_REFUSED, Scope.TEMPLATE),
        ([131026], Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT),
        ([130472, 131030, 131062], Reason.REQUEST_REFUSED, Scope.RECIPIENT),
        ([1, 131047], Reason.REQUEST_REFUSED, Scope.MESSAGE),
        ([131049], Reason.RECIPIENT_CAPPED, Scope.RECIPIENT),
        ([131050], Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT),
        ([132001, 132007, 131055, 131063, 134100], Reason.TEMPLATE_REFUSED, Scope.TEMPLATE),
        ([132015, 132016, 132068, 134101, 134102], Reason.TEMPLATE_PAUSED, Scope.TEMPLATE),
    ],
)
def test_codes_mean_what_whatsapp_says(codes: list[int], reason: Reason, scope: Scope) -> None:
    assert {(META_CODES[code].reason, META_CODES[code].scope) for code in codes} == {(reason, scope)}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("(#132000) Number of parameters", 132000),
        ("upstream said 131026.", 131026),
        ("139999 then 131026", 131026),
        ("919131026111", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_code_is_found_in_prose(text: str, code: int | None) -> None:
    assert find_meta_code(text) == code
