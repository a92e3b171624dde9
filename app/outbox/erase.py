"""One person's data, erased or shown to them. What happened stays, as nobody's; what is shown is what would go.

Erasing takes it from every row and from the log, in steps of some hundred events, so that intake never waits long.
Whoever is killed in the middle calls again: what is found only by a link to another event goes first, and the links
last.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from app.delivery.policy import Cause
from app.model.delivery import Reason, State
from app.outbox.find import PAGE, Person, Sought, find_person, is_told_by_id, mentions, pick_rows, seek_person
from app.outbox.holds import forget_person
from app.outbox.move import make_move, move
from app.outbox.read import name_columns, read_delivery, show_instant
from app.outbox.retention import DROP_ROW, NOTE_TRACES, hash_ids
from app.outbox.store import Row, Store, Tx, first
from app.outbox.values import Erased
from app.values.phone import mask_phone, to_one_form

ERASE_LIMIT = 100  # events a transaction
RECORDINGS_PAGE = 200

_COUNT_SENDING = "SELECT count(*) AS n FROM deliveries WHERE event_seq = :seq AND state = 'sending'"
_FIND_WAITING = """
SELECT seq, route, provider, state, attempts FROM deliveries
WHERE event_seq = :seq AND (state = 'pending' OR (state = 'unknown' AND due_at IS NOT NULL))
ORDER BY seq /*postgres FOR UPDATE*/
"""
_FIND_DELIVERIES = """
SELECT seq, person, provider_message_id, wamid FROM deliveries WHERE event_seq = :seq AND state <> 'sending'
    AND (message IS NOT NULL OR recipient <> '' OR person = :person)
"""
_WIPE = """
UPDATE deliveries SET message = NULL, checksum = NULL, recipient = '', person = :person,
    provider_message_id = :message_id, wamid = :wamid WHERE seq = :seq
"""
_WIPE_EVENT = "UPDATE events SET body = NULL WHERE seq = :seq AND body IS NOT NULL"
_CUT_EVENT = """
UPDATE events SET person = NULL, customer = NULL
WHERE seq = :seq AND (person = :person OR (person IS NULL AND customer IS NOT NULL))
"""
_CUT_ACTS = """
UPDATE acts SET person = NULL, customer = NULL WHERE event_seq = :seq AND (person = :person OR person IS NULL)
"""
_EARLY = """
SELECT provider, provider_message_id, delivery_id, status, wamid FROM early_receipts
WHERE (provider, provider_message_id, delivery_id, status) > (:provider, :provider_message_id, :delivery_id, :status)
ORDER BY provider, provider_message_id, delivery_id, status LIMIT :limit
"""
_EARLY_KEY = ("provider", "provider_message_id", "delivery_id", "status")
_DROP_EARLY = """
DELETE FROM early_receipts WHERE provider = :provider AND provider_message_id = :provider_message_id
    AND delivery_id = :delivery_id AND status = :status
"""
_RECORDINGS = """
SELECT topic, n, payload FROM recordings WHERE (topic, n) > (:topic, :n) ORDER BY topic, n LIMIT :limit
"""
_DROP_RECORDING = "DELETE FROM recordings WHERE topic = :topic AND n = :n"


_Counts = Counter[str]
"""How many events and deliveries were erased, and how many are `open`, which were left because they are being sent."""


async def erase_person(store: Store, number: str) -> Erased:
    """Wipe every event of a person and make it nobody's, with its deliveries; in steps, so that no one waits long.

    What may still be sent becomes `suppressed`, reason `erased`, but for what is being sent. Ids, times, states,
    keys of dedup and an opt-out stay. No byte of what was erased is left in the store's files, if `log_emptied`.
    """
    person = await seek_person(store, number)
    found = await find_person(store, person)
    await store.write(lambda tx: tx.run(NOTE_TRACES))  # for the next sweep, should this be killed
    done = await _erase_events(store, found.linked, person, cut=True)
    # While one of those is being sent, what leads to it must stay.
    cut = not done["open"]
    done += await _erase_events(store, found.named, person, cut=cut)
    done += await _erase_events(store, found.about, person, cut=cut)
    pick = partial(_pick_early, person.sought)
    early = await pick_rows(store, _EARLY, dict.fromkeys(_EARLY_KEY, ""), pick, limit=PAGE)
    await store.write(lambda tx: tx.run_many(_DROP_EARLY, early))
    pick = partial(_pick_recording, person.sought)
    recordings = await pick_rows(store, _RECORDINGS, {"topic": "", "n": 0}, pick, limit=RECORDINGS_PAGE)
    await store.write(lambda tx: tx.run_many(_DROP_RECORDING, recordings))
    opted_out = await store.write(partial(_erase_marks, person=person, is_over=not done["open"]))
    return Erased(done["events"], done["deliveries"], done["open"], opted_out, await store.empty_log())


async def _erase_events(store: Store, seqs: Sequence[int], person: Person, *, cut: bool) -> _Counts:
    done = _Counts()
    for start in range(0, len(seqs), ERASE_LIMIT):
        some = seqs[start : start + ERASE_LIMIT]
        done += await store.write(partial(_erase_some, seqs=some, person=person, cut=cut))
    return done


def _erase_some(tx: Tx, seqs: Sequence[int], person: Person, *, cut: bool) -> _Counts:
    return sum((_erase_event(tx, seq, person, cut=cut) for seq in seqs), _Counts())


def _erase_event(tx: Tx, seq: int, person: Person, *, cut: bool) -> _Counts:
    """Erase one event with its deliveries. What is being sent stays, and with it what it is found by."""
    sending = tx.rows(_COUNT_SENDING, seq=seq)[0].n
    waiting, reason = tx.rows(_FIND_WAITING, seq=seq), Reason.ERASED
    move(tx, [make_move(row, State.SUPPRESSED, Cause.ERASED, reason=reason) for row in waiting])
    deliveries = tx.rows(_FIND_DELIVERIES, seq=seq, person=person.hash)
    if deliveries:
        tx.run_many(_WIPE, [{"seq": row.seq, **_cut_delivery(tx, row, person)} for row in deliveries])
    if sending:
        return _Counts(deliveries=len(deliveries), open=sending)
    changed = tx.run(_WIPE_EVENT, seq=seq)
    tx.run(DROP_ROW, seq=seq)
    if cut:
        changed += tx.run(_CUT_EVENT, seq=seq, person=person.hash)
        tx.run(_CUT_ACTS, seq=seq, person=person.hash)
    return _Counts(events=int(changed + len(deliveries) > 0), deliveries=len(deliveries))


def _cut_delivery(tx: Tx, row: Row, person: Person) -> dict[str, Any]:
    """Return what is left of a delivery. One to somebody else, of an event of theirs, stays that one's."""
    if row.person not in (None, person.hash):
        return {"person": row.person, "message_id": row.provider_message_id, "wamid": row.wamid}
    return {"person": None, **hash_ids(tx, row)}


def _pick_early(sought: Sought, row: Row) -> dict[str, Any] | None:
    """Return the key of a receipt of no delivery whose id tells the number."""
    ids = (row.provider_message_id, row.wamid or "")
    return dict(zip(_EARLY_KEY, row, strict=False)) if any(is_told_by_id(sought, id_) for id_ in ids) else None


def _pick_recording(sought: Sought, row: Row) -> dict[str, Any] | None:
    """Return the key of a recording that names the number: a few of its values are taken as harmless, not invented."""
    return {"topic": row.topic, "n": row.n} if mentions(sought, row.payload.encode()) else None


def _erase_marks(tx: Tx, person: Person, *, is_over: bool) -> bool:
    """Drop what is kept of the person apart from any event; tell whether they opted out, which stays: it protects."""
    tx.run("DELETE FROM unreachable WHERE person = :person", person=person.hash)
    tx.run("DELETE FROM lifted_suppressions WHERE person = :person", person=person.hash)
    forget_person(tx, person.hash)
    if is_over:
        tx.run("DELETE FROM recipient_turns WHERE recipient = :number", number=person.number)
    return bool(tx.rows(_SUPPRESSED, person=person.hash))


# -- shown -------------------------------------------------------------------------------------------

EXPORT_LIMIT = 100  # events a read

_EVENT = "SELECT seq, id, source, source_delivery_id, topic, received_at, body FROM events WHERE seq = :seq"
_ACTS = "SELECT act, at FROM acts WHERE event_seq = :seq ORDER BY act"
_DELIVERIES = """
SELECT d.id, d.recipient, d.message, d.marketing, c.at AS clicked_at
FROM deliveries d LEFT JOIN clicks c ON c.delivery_seq = d.seq WHERE d.event_seq = :seq ORDER BY d.seq
"""
_OF_EVENT = ("event", "event_id", "topic")
_SUPPRESSED = "SELECT reason, since FROM suppressions WHERE person = :person"
_UNREACHABLE = "SELECT since FROM unreachable WHERE person = :person"


async def export_person(store: Store, number: str) -> Mapping[str, Any]:
    """Return everything that is kept of a person (E.164), unmasked: exactly what `erase_person` would find.

    Events, oldest first, are theirs that are about them (by number, or by a customer id that an event of that number
    has), that led to a message to them, or that name their number anywhere. A `body` is None once it was wiped.
    """
    person = await seek_person(store, number)
    seqs = sorted(chain(*await find_person(store, person)))
    events: list[Mapping[str, Any]] = []
    for start in range(0, len(seqs), EXPORT_LIMIT):
        some = seqs[start : start + EXPORT_LIMIT]
        events += await store.read(partial(_read_events, seqs=some, person=person), slow=True)
    return {"phone": number, **await store.read(partial(_read_marks, person=person), slow=True), "events": events}


def _read_marks(tx: Tx, person: Person) -> dict[str, Any]:
    suppressed = first(tx.rows(_SUPPRESSED, person=person.hash))
    unreachable = first(tx.rows(_UNREACHABLE, person=person.hash))
    reason, since = suppressed or (None, None)
    return {
        "marketing": {"suppressed": suppressed is not None, "reason": reason, "since": show_instant(since)},
        "unreachable_since": show_instant(unreachable.since if unreachable else None),
    }


def _read_events(tx: Tx, seqs: Sequence[int], person: Person) -> list[Mapping[str, Any]]:
    return [_read_event(tx, row, person) for seq in seqs for row in tx.rows(_EVENT, seq=seq)]


def _read_event(tx: Tx, row: Row, person: Person) -> Mapping[str, Any]:
    shown = name_columns(row)
    del shown["seq"]
    return {
        **shown,
        "body": _read_json(row.body),
        "acts": [name_columns(act) for act in tx.rows(_ACTS, seq=row.seq)],
        "deliveries": [_read_delivery(tx, person, each) for each in tx.rows(_DELIVERIES, seq=row.seq)],
    }


def _read_delivery(tx: Tx, person: Person, row: Row) -> Mapping[str, Any]:
    """Return a delivery as `explain` shows it, but unmasked."""
    recipient, message = row.recipient, _read_json(row.message)
    if to_one_form(recipient) not in ("", person.number):  # somebody else's, whose event names this person
        recipient = mask_phone(recipient)
        message = message and {**message, "recipient": recipient, "recipient_name": "***"}
    story = {name: value for name, value in (read_delivery(tx, row.id) or {}).items() if name not in _OF_EVENT}
    return {
        **story,
        "recipient": recipient,
        "message": message,
        "marketing": bool(row.marketing),
        "clicked_at": show_instant(row.clicked_at),
    }


def _read_json(data: bytes | None) -> Any:
    """Return a body or a message, None if it was wiped; as a text where it is no JSON."""
    if data is None:
        return None
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
