"""Whoever reads the log decides nothing: with the reader gone or stalled, events are taken and messages are sent."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx2
import pytest

from tests.security.living import Living, count_messages, make_folder, run_relay, run_vendor, wait_until

DIRECT = str(Path(__file__).with_name("direct_log.py"))
EVENTS = 40
F_SETPIPE_SZ = 1031
SMALLEST_PIPE = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "here")


@pytest.fixture
def vendor(folder: Path) -> Iterator[str]:
    with run_vendor(folder) as url:
        yield url


@dataclass(frozen=True)
class Pipe:
    """A pipe that is full after some ten lines."""

    reading: IO[bytes]
    writing: IO[bytes]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, F_SETPIPE_SZ, SMALLEST_PIPE)
    with open(reading, "rb") as reader, open(writing, "wb") as writer:  # noqa: PTH123  # they have no path
        yield Pipe(reader, writer)


def post_all(relay: Living, timeout: float = 20) -> list[int]:
    return [relay.post(number, timeout) for number in range(EVENTS)]


def read_metric(relay: Living, name: str) -> float:
    text = relay.ask("/metrics").text
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


def expect_a_living_relay(relay: Living, vendor: str) -> None:
    """Every event is taken, every message arrives, and it says that it is well."""
    before = count_messages(vendor)
    assert set(post_all(relay)) == {202}
    wait_until(lambda: count_messages(vendor) == before + EVENTS)
    assert (relay.ask("/healthz").status_code, relay.ask("/readyz").status_code) == (200, 200)
    assert read_metric(relay, "nector_relay_log_lines_dropped_total") >= 0


def test_a_reader_that_is_gone_stops_nothing(folder: Path, vendor: str, pipe: Pipe, tmp_path: Path) -> None:
    with (
        (tmp_path / "err").open("wb") as err,
        run_relay(folder, out=pipe.writing, err=err, GALLABOX_BASE_URL=vendor) as relay,
    ):
        pipe.writing.close()
        pipe.reading.close()
        expect_a_living_relay(relay, vendor)
        assert read_metric(relay, "nector_relay_log_lines_dropped_total") >= EVENTS
        assert relay.stop() == 0
    assert (tmp_path / "err").read_text() == "", "no traceback, and no `Exception ignored` at the exit"


def test_a_reader_that_is_stalled_stops_nothing_and_the_end_does_not_wait_for_it(
    folder: Path, vendor: str, pipe: Pipe, tmp_path: Path
) -> None:
    with (
        (tmp_path / "err").open("wb") as err,
        run_relay(folder, out=pipe.writing, err=err, GALLABOX_BASE_URL=vendor) as relay,
    ):
        expect_a_living_relay(relay, vendor)
        assert relay.stop() == 0
    assert (tmp_path / "err").read_text() == ""


def test_a_reader_that_comes_back_gets_what_waited(folder: Path, vendor: str, pipe: Pipe) -> None:
    with run_relay(folder, out=pipe.writing, GALLABOX_BASE_URL=vendor) as relay:
        pipe.writing.close()
        expect_a_living_relay(relay, vendor)
        relay.process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in pipe.reading]
        assert relay.wait() == 0
    assert [line["event"] for line in lines].count("event.received") == EVENTS
    assert lines[-1]["event"] in {"relay.stopped", "Finished server process"}


def test_a_fifo_whose_reader_comes_and_goes(folder: Path, vendor: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with fifo.open("wb") as out, run_relay(folder, out=out, GALLABOX_BASE_URL=vendor) as relay:
        out.close()
        os.close(first)
        expect_a_living_relay(relay, vendor)
        lost = read_metric(relay, "nector_relay_log_lines_dropped_total")
        assert lost >= EVENTS
        with fifo.open("rb") as second:
            assert relay.post(EVENTS) == 202
            told = next(line for line in map(json.loads, second) if line["event"] == "log.dropped")
            assert told["lines"] >= lost
            assert relay.stop() == 0


def test_a_stdout_that_was_closed_before_the_start_stops_nothing(folder: Path, vendor: str, tmp_path: Path) -> None:
    close = tmp_path / "close.py"
    close.write_text(
        "import os, sys\nos.close(1)\nos.execv(sys.executable, [sys.executable, '-m', 'app', *sys.argv[1:]])"
    )
    with run_relay(folder, (str(close),), GALLABOX_BASE_URL=vendor) as relay:
        expect_a_living_relay(relay, vendor)
        assert relay.stop() == 0


def test_an_exit_code_is_right_though_nobody_reads_why(folder: Path) -> None:
    """Both streams are one pipe, as with `2>&1 |`, and its reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with run_relay(folder, out=writing, err=writing, RELAY_DATABASE_URL="sqlite:///config") as relay:
        assert relay.wait() == 74
    with run_relay(folder, out=writing, err=writing, RELAY_NECTOR_SECRETS="") as relay:
        assert relay.wait() == 78
    os.close(writing)


# -- the controls -----------------------------------------------------------------------------------


def test_without_the_queue_a_reader_that_is_gone_makes_an_error_of_what_is_stored(
    folder: Path, vendor: str, pipe: Pipe
) -> None:
    with run_relay(folder, (DIRECT,), out=pipe.writing, GALLABOX_BASE_URL=vendor) as relay:
        pipe.writing.close()
        pipe.reading.close()
        for number in range(3):
            # The lane meets the same error at its own line, and the process may end with it: then what comes before
            # it is gone is answered 503, or not at all.
            with contextlib.suppress(httpx2.TransportError):
                assert relay.post(number) in {500, 503}
        relay.process.kill()


def test_without_the_queue_a_reader_that_is_stalled_stops_everything(folder: Path, vendor: str, pipe: Pipe) -> None:
    with run_relay(folder, (DIRECT,), out=pipe.writing, GALLABOX_BASE_URL=vendor) as relay:
        with pytest.raises(httpx2.TimeoutException):
            post_all(relay, timeout=3)
        with pytest.raises(httpx2.TimeoutException):
            relay.ask("/healthz", timeout=3)
        relay.process.kill()
