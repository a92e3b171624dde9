"""The log: one form for all, nothing of a customer in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.observe.logs import _CONTROL, MOST_BYTES, MOST_LINES, Log, LogStream, configure_logs, redact, write_plain

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def configure(printed: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Log]:
    """Return configure_logs, writing to `printed` (capsys has another stream in each phase of a test)."""

    def configure_printed(level: str, style: Literal["json", "console"]) -> Log:
        monkeypatch.setattr(sys, "stdout", printed)
        return configure_logs(level, style)

    return configure_printed


@pytest.fixture
def log(configure: Callable[..., Log]) -> Log:
    return configure("info", "json")


@pytest.fixture
def lines(printed: io.StringIO) -> Lines:
    """Return a function that returns what was logged since it was last called."""

    def read() -> list[dict[str, Any]]:
        text = printed.getvalue()
        printed.seek(0)
        printed.truncate()
        return [json.loads(line) for line in text.splitlines()]

    return read


def test_a_line_is_one_json_object_that_begins_with_when_how_bad_and_what(log: Log, lines: Lines) -> None:
    log.info("event.received", event_id="e-1", dead=[], due_at=1_795_000_000_000, detail=None, matched=True)
    (line,) = lines()
    assert list(line)[:3] == ["at", "level", "event"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("at"))
    assert line == {
        "level": "info",
        "event": "event.received",
        "event_id": "e-1",
        "dead": [],
        "due_at": 1_795_000_000_000,
        "detail": None,
        "matched": True,
    }


def test_the_console_form_is_one_plain_line(configure: Callable[..., Log], printed: io.StringIO) -> None:
    configure("info", "console").info("relay.started", stateless=False, detail="to +919800000001\nnow")
    (line,) = printed.getvalue().splitlines()
    assert "relay.started" in line
    assert "stateless=False" in line
    assert "info" in line
    assert "[number] now" in line
    assert "\x1b" not in line


LEVELS = ["debug", "info", "warning", "error"]


@pytest.mark.parametrize("level", LEVELS)
def test_only_what_is_as_bad_as_the_level_is_shown(level: str, configure: Callable[..., Log], lines: Lines) -> None:
    log = configure(level, "json")
    for each in LEVELS:
        getattr(log, each)(each)
    assert [line["event"] for line in lines()] == LEVELS[LEVELS.index(level) :]


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", ["warning", "error"]), ("info", ["warning", "error"]), ("error", ["error"])]
)
def test_a_library_shows_warnings_at_most(
    level: str, shown: list[str], configure: Callable[..., Log], lines: Lines
) -> None:
    """Below that, an HTTP client prints its requests."""
    configure(level, "json")
    for each in LEVELS:
        getattr(logging.getLogger("httpcore2"), each)(each)
    assert [line["event"] for line in lines()] == shown


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "httpx2", "asyncio", "py.warnings"])
def test_a_library_speaks_in_the_same_form(name: str, log: Log, lines: Lines) -> None:
    del log
    logging.getLogger(name).warning("cannot reach %s", "+919800000001")
    (line,) = lines()
    assert list(line)[:3] == ["at", "level", "event"]
    assert (line["level"], line["event"]) == ("warning", "cannot reach [number]")


NUMBERS = [
    "9800000001",
    "+919800000001",
    "919800000001",
    "+91 98000 00001",
    "+91-98000-00001",
    "+1 (415) 555-0132",
    "98000 00001",
    "00919800000001",
]


# What the pattern in use is to find, as one would write it down.
PHONE = re.compile(
    r"(?<![0-9A-Za-z-])(?:\+[0-9](?:[ ().-]{0,2}[0-9]){7,14}|[0-9]{10,15}|[0-9]{5} [0-9]{5})(?![0-9A-Za-z-])"
)


@given(st.text(st.sampled_from("00112345678999+++ -().aZ\n*"), max_size=40))
def test_a_number_is_found_wherever_one_stands(text: str) -> None:
    assert redact({"detail": text})["detail"] == _CONTROL.sub(" ", PHONE.sub("[number]", text))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("text", ["{}", "to {}: refused", '"phone":"{}"', "?phone={}&x=1", "({})", "tel:{},"])
def test_a_number_is_struck_out(log: Log, lines: Lines, number: str, text: str) -> None:
    log.info("x", detail=text.format(number))
    (line,) = lines()
    assert line["detail"] == text.format("[number]")


@pytest.mark.parametrize(
    "text",
    [
        "01a201af-c3a0-70eb-982c-a191f0c9f15a",
        "01234567-0123-7123-8123-012345678901",
        "63f0aaaaaaaaaaaaaaaa0000",
        "2026-11-22T05:17:05.936Z",
        "+91******0001",
        "75016709c058",
        "127.0.0.1:8000",
        "1795324626",
    ],
)
def test_what_is_no_number_stays(log: Log, lines: Lines, text: str) -> None:
    log.info("x", detail=text)
    (line,) = lines()
    if text.isdecimal():
        assert line["detail"] == "[number]"  # ten digits may be one: a net catches too much rather than too little
    else:
        assert line["detail"] == text


def test_what_stands_deeper_is_struck_out_too(log: Log, lines: Lines) -> None:
    log.info("x", dead=["a: 9800000001"], more={"9800000001": {"b": ("9800000001", 7)}}, error=ValueError("9800000001"))
    (line,) = lines()
    assert line["dead"] == ["a: [number]"]
    assert line["more"] == {"[number]": {"b": ["[number]", 7]}}
    assert line["error"] == "[number]"


@pytest.mark.parametrize("text", ["a\nb", "a\r\n\tb", "a\x1bb", "a\x00b", "a\u2028b", "a\u202eb", "a\x85b"])
def test_a_control_character_cannot_break_a_line(log: Log, lines: Lines, text: str) -> None:
    log.info("x", detail=text)
    assert lines()[0]["detail"] == "a b"


TEXTS = st.text(st.sampled_from([*'+0198 -().azAZ_:"\\\n\x7f\u00e9\u2028\U0001f600']), max_size=30) | st.sampled_from(
    ["x" * 256, "x" * 257, "+919800000001", "98000 00001", "01a21a39-dc37-7a97-a34b-bfbe03898279", "+91******0001"]
)
VALUES = TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)


@given(event=TEXTS, line=st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), VALUES | st.lists(VALUES)))
def test_a_plain_line_is_what_redaction_would_have_left_of_it(event: str, line: dict[str, Any]) -> None:
    line = {key: value for key, value in line.items() if key not in {"at", "level", "event"}}
    plain = write_plain("info", event, line)
    if plain is not None:
        head = {"at": json.loads(plain)["at"], "level": "info", "event": event}
        assert plain.decode() == json.dumps(redact({**head, **line})) + "\n"


@given(st.from_regex(PHONE), st.text(st.sampled_from(" (,:=*"), max_size=3))
def test_no_line_with_a_number_is_taken_for_a_plain_one(number: str, around: str) -> None:
    """The quick look at the whole line may see a number where none is, and may miss none."""
    assert write_plain("info", "x", {"detail": f"{around}{number}{around}"}) is None


def test_most_lines_are_plain() -> None:
    line = {"event_id": "01a21a39-dc37-7a97-a34b-bfbe03898279", "routes": ["coins"], "recipients": ["+91******0001"]}
    assert write_plain("info", "event.received", {**line, "due_at": None, "accept_ms": 3}) is not None


def test_a_long_value_is_cut(log: Log, lines: Lines) -> None:
    log.info("x" * 1000, detail="y" * 1000)
    (line,) = lines()
    assert (len(line["event"]), len(line["detail"])) == (256, 256)


def fail() -> None:
    name = "canary"
    raise ValueError(f"canary 9800000001 {name}")


def test_an_exception_shows_its_type_and_place_and_never_its_text(log: Log, lines: Lines) -> None:
    try:
        fail()
    except ValueError as error:
        log.error("by value", exc_info=error)
        log.error("by the way", exc_info=True)  # noqa: G201  # our own log has one way
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
        logging.getLogger("x").error("as a tuple", exc_info=(type(error), error, error.__traceback__))
    found = lines()
    assert [line["event"] for line in found] == [
        "by value", "by the way", "Exception in ASGI application", "as a tuple",
    ]  # fmt: skip
    for line in found:
        assert line["error_type"] == "ValueError"
        assert re.fullmatch(r"test_logs\.py:\d+", line["error_at"])
        assert "canary" not in str(line)
        assert "Traceback" not in str(line)


def test_an_exception_without_a_place_shows_its_type(log: Log, lines: Lines) -> None:
    log.error("x", exc_info=ValueError("canary"))
    (line,) = lines()
    assert (line["error_type"], "error_at" in line) == ("ValueError", False)
    log.error("x", exc_info=None)
    assert "error_type" not in lines()[0]


async def test_asyncios_own_words_do_not_show_an_exceptions_text(log: Log, lines: Lines) -> None:
    del log

    async def stumble() -> None:
        fail()

    task = asyncio.create_task(stumble())
    await asyncio.wait([task])
    del task  # asyncio now complains that nobody asked for its exception, and shows it
    (line,) = [line for line in lines() if line["level"] == "error"]
    assert line["event"] == "Task exception was never retrieved"
    assert line["error_type"] == "ValueError"
    assert "canary" not in str(line)


def test_configuring_twice_does_not_log_twice(log: Log, configure: Callable[..., Log], lines: Lines) -> None:
    del log
    configure("info", "json").info("once")
    logging.getLogger("uvicorn.error").warning("once")
    assert [line["event"] for line in lines()] == ["once", "once"]


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("line", [{"detail": Unshowable()}, {"detail": {Unshowable(): 1}}])
def test_a_line_that_cannot_be_made_reaches_nobody_who_logs(log: Log, lines: Lines, line: dict[str, Any]) -> None:
    logging.getLogger().handlers[:] = logging.getLogger().handlers[:1]  # ours; pytest's raise, to show a test's faults
    log.info("x", **line)
    logging.getLogger("uvicorn.error").warning("%s", Unshowable())
    log.info("y")
    assert [line["event"] for line in lines()] == ["y"]


# -- the stream -------------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """A pipe, as (reading end, writing end)."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(writing)


def read_all(reading: int) -> list[str]:
    os.set_blocking(reading, False)
    with open(reading, "rb") as file:
        return (file.read() or b"").decode().splitlines()


def test_lines_come_out_in_their_order_and_all_at_the_end(ends: tuple[int, int]) -> None:
    stream = LogStream(ends[1])
    for number in range(1_000):
        stream.write(b"%d\n" % number)
    stream.close()
    stream.write(b"too late\n")
    assert read_all(ends[0]) == [str(number) for number in range(1_000)]
    assert stream.dropped == 1


@pytest.mark.parametrize(("line", "room"), [(b"x\n", MOST_LINES), (b"x" * 9_999 + b"\n", MOST_BYTES // 10_000)])
def test_what_waits_for_a_stalled_reader_is_bounded(ends: tuple[int, int], line: bytes, room: int) -> None:
    reading, writing = ends
    os.set_blocking(writing, False)  # as it is where another process has made it so
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    stream = LogStream(writing)
    stream.write(line)
    while stream._waiting:  # until the thread has it in hand
        time.sleep(0.001)
    for _ in range(room + 100):
        stream.write(line)
    assert 90 <= stream.dropped <= 101
    os.close(reading)  # the thread meets EPIPE, and ends
    stream.close()
    assert stream.dropped == room + 101
    assert not stream._thread.is_alive()


def test_a_line_from_within_the_taking_of_another_is_taken_too(ends: tuple[int, int]) -> None:
    """The garbage collector may run at any time, and asyncio logs what it finds."""
    stream = LogStream(ends[1])
    with stream._changed:
        stream.write(b"inner\n")
    stream.close()
    assert read_all(ends[0]) == ["inner"]


def test_once_lines_are_taken_again_it_is_told_how_many_were_lost(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    first = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(tmp_path / "fifo", os.O_WRONLY)
    told: list[int] = []
    stream = LogStream(writing, told.append)
    os.close(first)
    for _ in range(3):
        stream.write(b"lost\n")
    while stream.dropped < 3:
        time.sleep(0.001)
    second = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    stream.write(b"kept\n")
    stream.close()
    assert (read_all(second), told) == (["kept"], [3])
    os.close(writing)
