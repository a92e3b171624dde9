from __future__ import annotations

import pytest

from app.model.receipt import Reply, Wish
from app.values.stop_words import STOP_WORDS, fold_words, read_wish


def reply(text: str = "", wish: Wish | None = None) -> Reply:
    return Reply("+919800000001", text, wish=wish)


@pytest.mark.parametrize(
    "text",
    [
        *("stop", "STOP", " Stop. ", "stop!!!", "*STOP*", "\ufeffstop\u200b", "\uff33\uff34\uff2f\uff30", "stop 🛑"),
        *("Stop promotions", "stop  all", "STOPALL", "Unsubscribe", "opt-out", "Opt out", "optout", "Please stop"),
    ],
)
def test_a_stop_word_alone_asks_for_no_more(text: str) -> None:
    assert read_wish(reply(text)) == "stop"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "!", "stop it now", "please stop calling me at work, where is my order", "don't stop", "STOPPING"),
        *("stop " * 20, "non-stop", "cancel", "quit", "end", "start", "yes", "0", "band karo"),
    ],
)
def test_anything_else_asks_for_nothing(text: str) -> None:
    assert read_wish(reply(text)) is None


@pytest.mark.parametrize(("text", "wish"), [("Band Karo!", "stop"), ("बंद करो", "stop"), ("बद करो", None), ("", None)])
def test_a_merchants_own_words_count_beside_ours(text: str, wish: Wish | None) -> None:
    assert read_wish(reply(text), ("band karo", "बंद करो")) == wish
    assert read_wish(reply("stop"), ("band karo",)) == "stop"


@pytest.mark.parametrize("wish", ["stop", "resume"])
def test_what_whatsapp_says_itself_needs_no_words(wish: Wish) -> None:
    assert read_wish(reply(wish=wish)) == wish
    assert read_wish(reply("stop", "resume")) == "resume"


def test_every_stop_word_is_written_as_it_is_looked_up() -> None:
    assert {fold_words(word) for word in STOP_WORDS} == STOP_WORDS


def test_no_reply_shows_who_wrote_or_what() -> None:
    assert repr(reply("my secret")).count("secret") == repr(reply()).count("9800000001") == 0
