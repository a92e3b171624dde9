"""How a lane sets, meets, probes and tells of holds."""

from __future__ import annotations

from typing import Any

import pytest

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Scope, State

MINUTE, HOUR = 60_000, 3_600_000
OK = Accepted("m-1")
UNAUTHORISED = Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER)
WRONG = Rejected(Reason.PARAMETERS_REFUSED)


async def refuse_many(bench: Any, outcome: Outcome, count: int = 16) -> None:
    """Have `count` sends open at once, and then all refused."""
    await bench.add(count)
    bench.desk.gate.clear()
    bench.desk.answer = outcome
    await bench.wait_until_asked(count)
    bench.desk.gate.set()
    await bench.pass_time()
    assert len(bench.log.of("delivery.attempted")) == count


async def test_sixteen_open_sends_that_are_refused_for_the_account_make_one_line_and_one_metric(bench: Any) -> None:
    async with bench.run():
        await refuse_many(bench, UNAUTHORISED)
        assert bench.log.of("hold.set") == [{"scope": "provider:gallabox", "reason": "credentials_refused"}]
        (hold,) = await bench.outbox.list_holds()
        assert hold.deliveries == 16
        bench.metrics.set_holds({each.scope: each.deliveries for each in await bench.outbox.list_holds()})
        shown = bench.metrics.show().decode().splitlines()
        assert [line for line in shown if line.startswith("nector_relay_holds{")] == [
            'nector_relay_holds{scope="provider:gallabox"} 1.0'
        ]
        await bench.pass_time(299_000)
        assert len(bench.desk.asked) == 16, "nothing goes while it is held"
        await bench.pass_time(2_000)
        assert len(bench.desk.asked) == 17, "but for one probe"
        assert bench.log.of("hold.set") == bench.log.of("hold.set")[:1]
        bench.desk.answer = OK
        await bench.pass_time(300_000)
        await bench.wait_until_asked(33)
        assert bench.log.of("hold.released") == [{"scope": "provider:gallabox", "by": "probe"}]
        rows = [line for line in bench.log.of("delivery.attempted") if line["outcome"] == "accepted"]
        assert len(rows) == 16


async def test_control_a_store_that_calls_every_hold_new_makes_a_line_of_each(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.outbox.holds.put_hold", lambda *_: True)
    async with bench.run():
        await refuse_many(bench, UNAUTHORISED)
    assert len(bench.log.of("hold.set")) == 16


async def test_a_route_whose_messages_are_refused_is_held_and_its_probe_is_not_lost(bench: Any) -> None:
    async with bench.run():
        await refuse_many(bench, WRONG, 6)
        assert bench.log.of("hold.set") == [{"scope": "route:coupon-ready", "reason": "refused_repeatedly"}]
        await bench.add(2)
        await bench.pass_time(14 * MINUTE)
        assert await bench.states() == {State.DEAD: 6, State.PENDING: 2}
        await bench.pass_time(2 * MINUTE)
        await bench.pass_time(15 * MINUTE)
        assert len(bench.desk.asked) == 8
        assert await bench.states() == {State.DEAD: 6, State.PENDING: 2}
        bench.desk.answer = OK
        await bench.pass_time(15 * MINUTE)
        await bench.wait_until_asked(10)
        await bench.pass_time()
        assert await bench.states() == {State.DEAD: 6, State.ACCEPTED: 2}
        assert bench.log.of("hold.released") == [{"scope": "route:coupon-ready", "by": "probe"}]
        assert len(bench.log.of("hold.set")) == 1


async def test_what_a_person_stops_while_it_is_probed_stays_stopped_and_nothing_says_otherwise(bench: Any) -> None:
    async with bench.run():
        await refuse_many(bench, UNAUTHORISED, 3)
        bench.desk.answer = OK
        bench.desk.gate.clear()
        await bench.pass_time(301_000)
        assert len(bench.desk.asked) == 4
        await bench.outbox.put_hold("provider:gallabox", "counting stock", bench.now, by_hand=True)
        bench.desk.gate.set()
        await bench.pass_time()
        await bench.pass_time(HOUR)
        assert len(bench.desk.asked) == 4
        assert bench.log.of("hold.released") == []
        assert [hold.reason for hold in await bench.outbox.list_holds()] == ["counting stock"]
