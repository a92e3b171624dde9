"""Messages are frozen to the bytes that were written down; `python -m tests.golden.messages` writes them anew.

That earlier bytes still go out as they would have gone is tests/outbox/test_fixture_outbox.py's to show.
"""

from __future__ import annotations

from pathlib import Path

from tests.golden.messages import BEFORE, freeze_messages, list_routes, read_kept


def test_every_message_is_frozen_and_sent_as_it_was_written_down(tmp_path: Path) -> None:
    assert freeze_messages(tmp_path) == read_kept()


def test_what_is_sent_is_what_the_release_before_sent() -> None:
    before = {name: message["request"] for name, message in read_kept(BEFORE).items()}
    assert {name: message["request"] for name, message in read_kept().items()} == before


def test_every_part_of_a_message_is_among_them() -> None:
    assert set(read_kept()) == set(list_routes())
    whole = "".join(message["message"] for message in read_kept().values())
    assert [kind for kind in ("image", "video", "document", "text") if f'"header":["{kind}"' not in whole] == []
