"""The disk that the power cuts are played on: it loses what a disk may lose, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from tests.faults.power.disk import SECTOR, Disk, Whim
from tests.faults.power.recording import Record

NAME, OTHER, FOLDER = "relay.db", "relay.db.new", "."
HARSH = Whim(kept=0.5, torn=0.5, size_off=0.5, in_order=False)
ORDERLY = Whim(kept=0.5, torn=0.5, size_off=0.0, in_order=True)


def open_(fd: int, name: str) -> Record:
    return Record("O", fd, 0, name.encode())


def write(fd: int, offset: int, data: bytes) -> Record:
    return Record("W", fd, offset, data)


def flush(fd: int) -> list[Record]:
    return [Record("B", fd, 0, b""), Record("E", fd, 0, b"")]


def rename(name: str, new_name: str) -> Record:
    return Record("R", -1, 0, f"{name}\0{new_name}".encode())


FLUSHED = [open_(3, NAME), open_(4, FOLDER), *flush(4), write(3, 0, b"a" * 2 * SECTOR), *flush(3)]


def cut(records: Sequence[Record], whim: Whim = HARSH, times: int = 500) -> list[dict[str, bytes]]:
    disk = Disk()
    for record in records:
        disk.do(record)
    random = Random(7)  # noqa: S311  # no secret
    return [
        {name: bytes(image) for name, (_, image) in disk.cut(random, whim, (NAME, OTHER)).items()} for _ in range(times)
    ]


def test_what_was_flushed_is_there_after_every_cut() -> None:
    assert {left[NAME] for left in cut(FLUSHED)} == {b"a" * 2 * SECTOR}


def test_without_the_flush_anything_up_to_all_may_be_gone() -> None:
    left = {found.get(NAME) for found in cut(FLUSHED[:-2])}
    assert {b"", b"a" * 2 * SECTOR} < left


def test_a_flush_covers_only_what_was_written_before_it_began() -> None:
    begun, ended = flush(3)
    left = {found[NAME] for found in cut([*FLUSHED, begun, write(3, 0, b"b"), ended])}
    assert {b"a", b"b"} <= {text[:1] for text in left}


def test_a_flush_that_failed_promises_nothing() -> None:
    begun, _ = flush(3)
    left = {found[NAME] for found in cut([*FLUSHED, write(3, 0, b"b"), begun, Record("F", 3, 0, b"")])}
    assert {b"a", b"b"} <= {text[:1] for text in left}


@pytest.mark.parametrize("whim", [HARSH, ORDERLY])
def test_a_torn_write_leaves_alone_what_lies_beside_it(whim: Whim) -> None:
    left = [found[NAME] for found in cut([*FLUSHED, write(3, 100, b"b" * SECTOR)], whim)]
    assert {(text[:100], text[100 + SECTOR :]) for text in left} == {(b"a" * 100, b"a" * (SECTOR - 100))}
    torn = {(text[100:SECTOR], text[SECTOR : 100 + SECTOR]) for text in left}
    assert {(b"a" * 412, b"b" * 100), (b"b" * 412, b"a" * 100)} < torn


def test_of_two_writes_the_later_may_survive_alone_unless_in_order() -> None:
    records = [*FLUSHED, write(3, 0, b"b" * SECTOR), write(3, SECTOR, b"c" * SECTOR)]
    alone = b"a" * SECTOR + b"c" * SECTOR
    assert alone in {found[NAME] for found in cut(records)}
    assert alone not in {found[NAME] for found in cut(records, ORDERLY)}


def test_a_size_may_run_ahead_of_the_data() -> None:
    left = {found[NAME] for found in cut([*FLUSHED, write(3, 2 * SECTOR, b"b" * SECTOR)])}
    assert b"a" * 2 * SECTOR + bytes(SECTOR) in left
    assert {text[: 2 * SECTOR] for text in left} == {b"a" * 2 * SECTOR}


def test_a_renaming_happens_whole_or_not_and_for_certain_once_the_folder_is_flushed() -> None:
    made = [open_(4, FOLDER), open_(3, OTHER), *flush(4), rename(OTHER, NAME)]
    assert {tuple(found) for found in cut(made)} == {(OTHER,), (NAME,)}
    assert {tuple(found) for found in cut([*made, *flush(4)])} == {(NAME,)}


def test_a_removed_file_may_come_back() -> None:
    records = [*FLUSHED, Record("U", -1, 0, NAME.encode())]
    assert {tuple(found) for found in cut(records)} == {(NAME,), ()}
