"""What happened is told a little later than it happened, and all of it, in its order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from app.observe.logs import AT_ONCE, TURNS, PromptReports, Reports


async def pass_turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_it_is_told_in_its_order_once_the_loop_has_gone_on() -> None:
    told: list[int] = []
    reports = Reports()
    for number in range(3):
        reports.add(told.append, number)
    await pass_turns(TURNS)
    assert told == []
    await pass_turns(2)
    assert told == [0, 1, 2]


async def test_what_comes_meanwhile_is_told_with_the_first_and_what_comes_then_later() -> None:
    told: list[int] = []
    reports = Reports()
    reports.add(told.append, 0)
    await pass_turns(TURNS - 1)
    reports.add(told.append, 1)
    await pass_turns(3)
    assert told == [0, 1]
    reports.add(told.append, 2)
    await pass_turns(TURNS)
    assert told == [0, 1]
    await pass_turns(2)
    assert told == [0, 1, 2]


async def test_a_crowd_is_told_in_parts_and_others_have_their_turn_between_them() -> None:
    told: list[int] = []
    reports = Reports()
    for number in range(3 * AT_ONCE):
        reports.add(told.append, number)
    await pass_turns(TURNS + 1)
    seen = {len(told)}
    for _ in range(4):
        await pass_turns(1)
        seen.add(len(told))
    assert seen == {AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE}
    assert told == list(range(3 * AT_ONCE))


async def test_whoever_cannot_wait_has_all_told_at_once_and_nothing_twice() -> None:
    told: list[int] = []
    reports = Reports()
    reports.add(told.append, 0)
    reports.tell()
    assert told == [0]
    await pass_turns(TURNS + 3)
    assert told == [0]


def fail() -> None:
    raise ZeroDivisionError


async def test_what_cannot_be_told_keeps_nothing_else_back() -> None:
    told: list[int] = []
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failed.append(context["exception"]))
    reports = Reports()
    calls: list[Callable[[], object]] = [fail, lambda: told.append(1), fail, lambda: told.append(2)]
    for call in calls:
        reports.add(call)
    await pass_turns(TURNS + 6)
    assert told == [1, 2]
    assert [type(error) for error in failed] == [ZeroDivisionError, ZeroDivisionError]


def test_where_a_line_names_the_step_under_way_it_is_told_at_once() -> None:
    told: list[int] = []
    PromptReports().add(told.append, 0)
    assert told == [0]
    with pytest.raises(ZeroDivisionError):
        PromptReports().add(fail)
