"""What record_event and list_recordings promise, whatever the store."""

from __future__ import annotations

from typing import Any

from app.outbox.values import Recording


async def test_the_newest_of_each_topic_are_kept_newest_first(shop: Any) -> None:
    for number in range(25):
        await shop.store.record_event(Recording("coupon_create", number, f'{{"n": {number}}}'))
    await shop.store.record_event(Recording("another", 99, "{}"))
    kept = await shop.store.list_recordings("coupon_create")
    assert [row.at for row in kept] == list(range(24, 4, -1))
    assert kept[0] == Recording("coupon_create", 24, '{"n": 24}')
    assert [row.topic for row in await shop.store.list_recordings(None)] == ["another", *["coupon_create"] * 20]
    assert await shop.store.list_recordings("nothing") == []


async def test_invented_topics_do_not_fill_the_store(shop: Any) -> None:
    for number in range(210):
        await shop.store.record_event(Recording(f"topic-{number:03}", number, "{}"))
    await shop.store.record_event(Recording("topic-000", 999, "{}"))
    kept = await shop.store.list_recordings(None)
    assert len({row.topic for row in kept}) == 200
    assert kept[0] == Recording("topic-000", 999, "{}")
