"""Reading a file that somebody names: whatever it is, it ends."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from app import files
from app.files import read_bytes


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_a_file_is_read_whole_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    assert len(read_bytes(path, 100_000)) == 100_000
    assert len(read_bytes(path, 99_999, cut=True)) == 100_000
    assert len(read_bytes(path, 7, cut=True)) == 8
    with pytest.raises(OSError, match="it is longer than"):
        read_bytes(path, 8)


def test_a_device_without_an_end_is_cut() -> None:
    assert len(read_bytes(Path("/dev/zero"), 200_000, cut=True)) == 200_001


def test_a_folder_and_what_is_not_there_are_refused_by_the_system(tmp_path: Path) -> None:
    for path, number in ((tmp_path, errno.EISDIR), (tmp_path / "nothing", errno.ENOENT)):
        with pytest.raises(OSError, match=os.strerror(number)):
            read_bytes(path, 10)


def test_a_pipe_that_nobody_writes_into_holds_nobody_up(fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SILENCE_MS", 50)
    with pytest.raises(TimeoutError, match="nothing came from it"):
        read_bytes(fifo, 10)


def test_a_pipe_that_somebody_writes_into_is_read_to_its_end(fifo: Path) -> None:
    writer = threading.Thread(target=fifo.write_bytes, args=(b"y" * 300_000,))
    writer.start()
    assert read_bytes(fifo, 1_000_000) == b"y" * 300_000
    writer.join()


def test_control_a_plain_open_of_a_pipe_waits_for_a_writer(fifo: Path) -> None:
    reader = threading.Thread(target=fifo.read_bytes, daemon=True)
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    fifo.write_bytes(b"")
    reader.join()
