"""Known-bad controls of what holds, refusals and late outcomes promise: each without the line that keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Reason, Rejected, State
from app.outbox import close as closing
from app.outbox import holds as holding
from tests.outbox.methods import SqliteOutbox


@pytest.fixture
def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite())


async def test_without_its_look_at_who_set_it_a_probe_ends_what_a_person_stopped(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_RELEASE_PROBED", "DELETE FROM holds WHERE scope = :scope")
    await shop.add()
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now)
    probe = await shop.claim_one()
    await shop.store.put_hold("provider:gallabox", "counting stock", shop.now, by_hand=True)
    await shop.accept(probe)
    assert not await shop.store.list_holds()


async def test_without_its_look_at_who_ended_it_an_attempt_is_closed_twice(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "_WAS_LOST", closing._WAS_LOST.replace("tries IS NULL", "1"))
    await shop.add()
    attempt = await shop.claim_one()
    assert await shop.leave_unknown(attempt, Reason.PROCESS_DIED)
    assert await shop.accept(attempt)


async def test_without_an_end_of_the_count_a_working_route_is_held(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count = closing.count_refusals  # type: ignore[attr-defined]  # the very name that is called

    def count_on(tx: Any, ended: Any) -> Any:
        return count(tx, [((route, why or None), of_provider) for (route, why), of_provider in ended])

    monkeypatch.setattr(closing, "count_refusals", count_on)
    await shop.add_many(9)
    for number, attempt in enumerate(await shop.claim()):
        if number % 2:
            await shop.accept(attempt)
        else:
            refused = Rejected(Reason.PARAMETERS_REFUSED)
            await shop.close(attempt, refused, Decision(State.DEAD, Reason.PARAMETERS_REFUSED))
    assert len(await shop.store.list_holds()) == 1
