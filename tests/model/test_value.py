"""A class of values is what Python's own dataclass makes, but for what it costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from app.model.value import dataclass


@dataclass(frozen=True, slots=True)
class Coupon:
    code: str = dataclasses.field(repr=False)
    amount: int
    seen: int = dataclasses.field(default=0, compare=False)


@dataclass(slots=True)
class Basket:
    coupons: list[Any]


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


@dataclass(slots=True, eq=False, repr=False)
class Bare:
    code: str


@dataclasses.dataclass(frozen=True, slots=True)
class Usual:
    code: str = dataclasses.field(repr=False)
    amount: int
    seen: int = dataclasses.field(default=0, compare=False)


def test_a_value_is_shown_as_usual_and_without_what_is_not_to_be_shown() -> None:
    assert repr(Coupon("ACME-7Q2P", 200)) == repr(Usual("ACME-7Q2P", 200)).replace("Usual", "Coupon")
    assert "ACME" not in repr(Coupon("ACME-7Q2P", 200))
    assert "ACME" not in repr(Bare("ACME"))


def test_what_holds_itself_is_shown_once() -> None:
    basket = Basket([])
    basket.coupons.append(basket)
    assert repr(basket) == "Basket(coupons=[...])"


def test_values_are_equal_by_what_is_compared_and_only_to_their_own_kind() -> None:
    assert Coupon("A", 200) == Coupon("A", 200, seen=3)
    assert Coupon("A", 200) != Coupon("A", 300)
    assert Coupon("A", 200) != Usual("A", 200)  # type: ignore[comparison-overlap]  # which is the point
    assert Bare("A") != Bare("A")
    assert Nothing() == Nothing()


def test_a_frozen_value_is_a_key_by_what_is_compared_and_another_is_none() -> None:
    assert {Coupon("A", 200): 1}[Coupon("A", 200, seen=3)] == 1
    with pytest.raises(TypeError):
        hash(Basket([]))
    assert len({Bare("A"), Bare("A")}) == 2


def test_it_can_be_taken_apart_and_made_anew_as_usual() -> None:
    assert dataclasses.replace(Coupon("A", 200), amount=300) == Coupon("A", 300)
    assert dataclasses.asdict(Coupon("A", 200)) == dataclasses.asdict(Usual("A", 200))
    match Coupon("A", 200):
        case Coupon(code, amount):
            assert (code, amount) == ("A", 200)
