"""The label under which an event is counted. How events are taken in: tests/api/test_webhooks.py."""

from __future__ import annotations

import pytest

from app.relay.intake import topic_label
from app.sources import SOURCE


@pytest.mark.parametrize("topic", sorted(SOURCE.topics))
def test_a_topic_of_nectors_is_its_own_label(topic: str) -> None:
    assert topic_label(topic) == topic


@pytest.mark.parametrize("topic", ["", "badge_create", "+919800000001", "x" * 100, "a\nb"])
def test_any_other_topic_is_other_so_that_strangers_do_not_grow_the_label(topic: str) -> None:
    assert topic_label(topic) == "other"
