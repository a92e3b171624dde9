from __future__ import annotations

import pytest

from app.model.message import RESUME_WORDS, STOP_WORDS, Reply, Wish, fold_words, read_wish


def reply(text: str, payload: str = "") -> tuple[str, str]:
    return text, payload


@pytest.mark.parametrize(
    "text",
    [
        *("stop", "STOP", " Stop. ", "stop!!!", "*STOP*", "\ufeffstop\u200b", "\uff33\uff34\uff2f\uff30", "stop 🛑"),
        *("Stop promotions", "stop  all", "STOPALL", "Unsubscribe", "opt-out", "Opt out", "optout", "Please stop"),
        *(
            "Stop. Thank you",
            "UNSUBSCRIBE me please",
            "stop it now",
            "Stop sending me messages",
            "ok stop",
            "STOP STOP",
        ),
        *("Stop marketing messages", "Don't send messages", "Hi, stop these messages. Thanks", "ok stop", "opt me out"),
        *("रोकें", "बंद करो", "बन्द करो", "कृपया बंद करें", "मैसेज मत भेजो", "संदेश नहीं चाहिए"),
        *("band karo", "Band kar do please", "message mat bhejo", "mat bhejo bhai", "msg nahi chahiye"),
        *("BAJA", "PARAR", "ARRÊT", "ARRE\u0302T", "إيقاف", "Stop por favor"),
    ],
)
def test_a_stop_word_alone_asks_for_no_more(text: str) -> None:
    assert read_wish(reply(text)) == "stop"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "!", "please stop calling me at work, where is my order", "don't stop", "STOPPING"),
        *("stop " * 20, "non-stop", "cancel", "quit", "end", "yes", "0", "thank you", "ok thanks", "please", "now"),
        *("stop by the shop", "can you stop it?", "which stop", "Stop my order please", "stop it, you make me laugh"),
        *("did you stop sending the parcel", "I never asked you to stop", "do not stop sending messages"),
        *("nahi chahiye", "order mat bhejo", "mat bhejo abhi", "dukan kab band karo ge", "band", "mat karo"),
        *("कब बंद करोगे", "नहीं चाहिए", "रोकें मत", "me llevo la baja", "pas d'arrêt", "unsubscribe how?"),
        *("start of the sale?", "when does it start", "I want to subscribe to nothing", "resume of the order"),
    ],
)
def test_anything_else_asks_for_nothing(text: str) -> None:
    assert read_wish(reply(text)) is None


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        *((text, "stop") for text in ("Bas Karo!", "bas karo please", "नको", "No, thanks")),
        *((text, None) for text in ("नक", "no", "bas", "please", "")),
    ],
)
def test_a_merchants_own_words_count_beside_ours(text: str, wish: Wish | None) -> None:
    own = ("bas karo", "नको", "no thanks", "please")
    assert read_wish(reply(text), own) == ("stop" if text == "please" else wish)
    assert read_wish(reply("stop"), own) == "stop"


@pytest.mark.parametrize("text", ["START", "Unstop", "Subscribe", "resume", "start please", "Opt-in", "शुरू करो"])
def test_a_word_brings_marketing_back_unless_the_merchant_says_no(text: str) -> None:
    assert read_wish(reply(text)) == "resume"
    assert read_wish(reply(text), start_lifts=False) is None
    assert read_wish(reply(text), (text,)) == "stop"


@pytest.mark.parametrize(
    ("text", "payload", "wish"),
    [
        ("Not for me", "STOP", "stop"),
        ("Not for me", "stop_promotions", "stop"),
        ("Yes!", "START", "resume"),
        ("Start", "STOP", "stop"),
        ("Not for me", "not-for-me", None),
        ("Not for me", "STOP-" + "x" * 60, None),
    ],
)
def test_what_stands_behind_a_button_counts_as_its_text_does(text: str, payload: str, wish: Wish | None) -> None:
    assert read_wish(reply(text, payload=payload)) == wish


def test_every_stop_word_is_written_as_it_is_looked_up() -> None:
    assert {fold_words(word) for word in STOP_WORDS | RESUME_WORDS} == STOP_WORDS | RESUME_WORDS
    assert not STOP_WORDS & RESUME_WORDS


def test_no_reply_shows_who_wrote_or_what() -> None:
    assert repr(Reply("", "my secret", payload="a secret")).count("secret") == 0
    assert repr(Reply("+919800000001", "")).count("9800000001") == 0
