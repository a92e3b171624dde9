from __future__ import annotations

import pytest

from app.model.delivery import Reason, Scope
from app.providers.whatsapp import META_CODES, find_meta_code

RETRIED = {4, 80007, 130429, 131056, 131000, 131016, 131057, 135000, 131049}


@pytest.mark.parametrize("code", sorted(META_CODES))
def test_only_what_may_pass_later_is_retried(code: int) -> None:
    assert META_CODES[code].retry is (code in RETRIED)


@pytest.mark.parametrize(
    ("codes", "reason", "scope"),
    [
        ([0, 3, 10, 190, 200, 299], Reason.CREDENTIALS_REFUSED, Scope.PROVIDER),
        ([4, 80007, 130429], Reason.RATE_LIMITED, Scope.PROVIDER),
        ([131056], Reason.RATE_LIMITED, Scope.RECIPIENT),
        ([131048, 131064, 368, 131031, 130497, 131045], Reason.ACCOUNT_BLOCKED, Scope.PROVIDER),
        ([131042], Reason.BALANCE_EMPTY, Scope.PROVIDER),
        ([131000, 135000], Reason.SERVER_ERROR, Scope.MESSAGE),
        ([131016, 131057], Reason.UNAVAILABLE, Scope.PROVIDER),
        ([100, 131008, 131009, 131021, 132005, 132008, 132012, 132018], Reason.PARAMETERS_REFUSED, Scope.MESSAGE),
        ([132000], Reason.PARAMETERS_REFUSED, Scope.TEMPLATE),
        ([131026], Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT),
        ([130472, 131062], Reason.REQUEST_REFUSED, Scope.RECIPIENT),
        ([131047], Reason.REQUEST_REFUSED, Scope.MESSAGE),
        ([131049], Reason.RECIPIENT_CAPPED, Scope.RECIPIENT),
        ([131050], Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT),
        ([132001, 132007, 131063], Reason.TEMPLATE_REFUSED, Scope.TEMPLATE),
        ([132015, 132016], Reason.TEMPLATE_PAUSED, Scope.TEMPLATE),
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
