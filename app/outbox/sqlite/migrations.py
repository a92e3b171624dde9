"""The tables of the SQLite outbox and how they came to be, one version a step.

Indexes on work still to do are partial, so that a million finished deliveries cost a claim nothing
(https://www.sqlite.org/partialindex.html). What is pending or sending is not in `counts`: their indexes are small
enough to count. Until version 4 triggers kept the timeline and the counts; since then app/outbox/move.py does.
"""

from __future__ import annotations

_VERSION_1 = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    source_delivery_id TEXT,
    topic TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    body BLOB -- NULL once wiped
) /*strict*/;
CREATE UNIQUE INDEX events_source ON events (source, source_delivery_id) WHERE source_delivery_id IS NOT NULL;
CREATE INDEX events_unwiped ON events (received_at) WHERE body IS NOT NULL;

CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    event_seq INTEGER NOT NULL,
    route TEXT NOT NULL,
    provider TEXT NOT NULL,
    template TEXT NOT NULL,
    rank INTEGER NOT NULL, -- minus the priority, so that one ascending index serves a lane
    recipient TEXT NOT NULL,
    message BLOB,
    checksum TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    receipt TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    spent INTEGER NOT NULL DEFAULT 0, -- attempts that count towards backing off
    due_at INTEGER,
    deadline_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    last_attempt_at INTEGER,
    lease_until INTEGER,
    provider_message_id TEXT,
    on_unknown TEXT NOT NULL,
    config_hash TEXT NOT NULL
) /*strict*/;
CREATE INDEX deliveries_event ON deliveries (event_seq);
CREATE INDEX deliveries_pending ON deliveries (provider, route, template, rank, due_at) WHERE state = 'pending';
CREATE INDEX deliveries_deadline ON deliveries (deadline_at) WHERE state = 'pending';
CREATE INDEX deliveries_sending ON deliveries (lease_until) WHERE state = 'sending';
CREATE INDEX deliveries_unknown ON deliveries (due_at) WHERE state = 'unknown';
CREATE INDEX deliveries_unusual ON deliveries (state)
    WHERE state IN ('unknown', 'expired', 'suppressed', 'shadow', 'dead');
CREATE INDEX deliveries_message_id ON deliveries (provider_message_id) WHERE provider_message_id IS NOT NULL;

CREATE TABLE attempts (
    delivery_seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT,
    reason TEXT,
    detail TEXT,
    tries INTEGER,
    PRIMARY KEY (delivery_seq, number)
) WITHOUT ROWID /*, strict*/;

CREATE TABLE timeline (
    delivery_seq INTEGER NOT NULL,
    n INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL, -- 'state' or 'receipt'
    value TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    PRIMARY KEY (delivery_seq, n)
) WITHOUT ROWID /*, strict*/;

CREATE TABLE receipts (
    delivery_seq INTEGER NOT NULL,
    status TEXT NOT NULL,
    at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    PRIMARY KEY (delivery_seq, status)
) WITHOUT ROWID /*, strict*/;

CREATE TABLE early_receipts (
    provider TEXT NOT NULL,
    provider_message_id TEXT NOT NULL, -- '' where the receipt had none
    delivery_id TEXT NOT NULL, -- '' where the receipt had none
    status TEXT NOT NULL,
    at INTEGER,
    received_at INTEGER NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    PRIMARY KEY (provider, provider_message_id, delivery_id, status)
) WITHOUT ROWID /*, strict*/;
CREATE INDEX early_receipts_delivery ON early_receipts (provider, delivery_id) WHERE delivery_id <> '';
CREATE INDEX early_receipts_received ON early_receipts (received_at);

CREATE TABLE dedup_keys (
    hash BLOB NOT NULL PRIMARY KEY,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID /*, strict*/;
CREATE INDEX dedup_keys_seen ON dedup_keys (seen_at);

CREATE TABLE recipient_turns ( -- who had an attempt in the last seconds
    provider TEXT NOT NULL,
    recipient TEXT NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (provider, recipient)
) WITHOUT ROWID /*, strict*/;

CREATE TABLE holds (
    scope TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    probe_at INTEGER,
    probe_every_ms INTEGER NOT NULL
) WITHOUT ROWID /*, strict*/;

CREATE TABLE counts (
    provider TEXT NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (provider, state)
) WITHOUT ROWID /*, strict*/;

CREATE TABLE commits (n INTEGER NOT NULL) /*strict*/; -- what can_commit writes
INSERT INTO commits VALUES (0);

CREATE TRIGGER delivery_added AFTER INSERT ON deliveries BEGIN
    INSERT INTO timeline VALUES (NEW.seq, 1, NEW.created_at, 'state', NEW.state, NEW.reason, NEW.detail);
    INSERT INTO counts SELECT NEW.provider, NEW.state, 1 WHERE NEW.state NOT IN ('pending', 'sending')
        ON CONFLICT (provider, state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER delivery_changed AFTER UPDATE OF state ON deliveries WHEN OLD.state <> NEW.state BEGIN
    INSERT INTO timeline VALUES (
        NEW.seq, 1 + (SELECT max(n) FROM timeline WHERE delivery_seq = NEW.seq),
        NEW.updated_at, 'state', NEW.state, NEW.reason, NEW.detail);
    UPDATE counts SET n = n - 1
        WHERE OLD.state NOT IN ('pending', 'sending') AND provider = OLD.provider AND state = OLD.state;
    INSERT INTO counts SELECT NEW.provider, NEW.state, 1 WHERE NEW.state NOT IN ('pending', 'sending')
        ON CONFLICT (provider, state) DO UPDATE SET n = n + 1;
END;
"""

_VERSION_2 = """
CREATE TABLE lanes ( -- what a lane must still know after a restart
    provider TEXT NOT NULL PRIMARY KEY,
    last_claim_at INTEGER, -- written by every claim that opened an attempt
    paused_until INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    probe_at INTEGER,
    resumed_at INTEGER
) WITHOUT ROWID /*, strict*/;

CREATE TABLE refusals ( -- how often in a row a route's messages were refused for the same reason
    route TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    n INTEGER NOT NULL
) WITHOUT ROWID /*, strict*/;

CREATE TABLE plans ( -- replays that were worked out; they hold ids only
    id TEXT NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL,
    config_hash TEXT NOT NULL,
    entries TEXT NOT NULL, -- JSON
    applied_at INTEGER
) WITHOUT ROWID /*, strict*/;

CREATE TABLE recordings ( -- the last events of each topic, with invented values
    topic TEXT NOT NULL,
    n INTEGER NOT NULL,
    at INTEGER NOT NULL,
    payload TEXT NOT NULL, -- JSON
    PRIMARY KEY (topic, n)
) WITHOUT ROWID /*, strict*/;

CREATE TABLE marks ( -- what is to be known of the file as a whole, e.g. that it is a backup
    name TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) WITHOUT ROWID /*, strict*/;

ALTER TABLE holds ADD COLUMN by_hand INTEGER NOT NULL DEFAULT 0; -- 1: set by a person, so a person ends it
UPDATE holds SET by_hand = 1 WHERE reason = 'by_hand';

ALTER TABLE dedup_keys ADD COLUMN event_seq INTEGER; -- whose key it is: an event's replay is not its own duplicate

CREATE TRIGGER delivery_forgotten AFTER DELETE ON deliveries BEGIN
    UPDATE counts SET n = n - 1
        WHERE OLD.state NOT IN ('pending', 'sending') AND provider = OLD.provider AND state = OLD.state;
END;
"""

_VERSION_3 = """
CREATE TABLE keys (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID /*, strict*/;
INSERT INTO keys VALUES ('people', randomblob(32)); -- see outbox/people.py

ALTER TABLE events ADD COLUMN person BLOB; -- whom it is about: a keyed hash of the number, NULL where there is none
ALTER TABLE events ADD COLUMN customer BLOB; -- the same of the source's id of the customer
CREATE INDEX events_person ON events (person) WHERE person IS NOT NULL;
CREATE INDEX events_customer ON events (customer) WHERE customer IS NOT NULL;

ALTER TABLE deliveries ADD COLUMN person BLOB; -- the recipient as a keyed hash, which outlives the number
ALTER TABLE deliveries ADD COLUMN marketing INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deliveries ADD COLUMN config_line INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN trace TEXT NOT NULL DEFAULT '';
UPDATE deliveries SET person = hash_person((SELECT value FROM keys WHERE name = 'people'), recipient);
UPDATE deliveries -- what was wiped before keeps no number in an id, either
    SET provider_message_id = hash_message_id((SELECT value FROM keys WHERE name = 'people'), provider_message_id)
    WHERE recipient = '' AND provider_message_id IS NOT NULL;
CREATE INDEX deliveries_created ON deliveries (created_at);
CREATE INDEX deliveries_person ON deliveries (person) WHERE person IS NOT NULL;
ALTER TABLE deliveries ADD COLUMN wamid TEXT; -- WhatsApp's own id, where the provider's is another one
CREATE INDEX deliveries_wamid ON deliveries (wamid) WHERE wamid IS NOT NULL;
ALTER TABLE early_receipts ADD COLUMN scope TEXT NOT NULL DEFAULT 'message';
ALTER TABLE early_receipts ADD COLUMN wamid TEXT;

CREATE TABLE suppressions ( -- who gets no marketing; hashes only, and never forgotten by themselves
    person BLOB NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL
) WITHOUT ROWID /*, strict*/;

CREATE TABLE lifted_suppressions ( -- who wants it again, and since when: an older wish that comes late is none
    person BLOB NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) WITHOUT ROWID /*, strict*/;

CREATE TABLE unreachable ( -- whose number WhatsApp said it cannot reach; nothing is withheld
    person BLOB NOT NULL PRIMARY KEY,
    since INTEGER NOT NULL
) WITHOUT ROWID /*, strict*/;

CREATE TABLE clicks ( -- deliveries whose reply button was tapped
    delivery_seq INTEGER NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) /*strict*/;

CREATE TABLE acts ( -- what customers did, as later events told
    event_seq INTEGER NOT NULL,
    act TEXT NOT NULL,
    at INTEGER NOT NULL,
    person BLOB,
    customer BLOB,
    PRIMARY KEY (event_seq, act)
) WITHOUT ROWID /*, strict*/;
CREATE INDEX acts_person ON acts (person, at, act) WHERE person IS NOT NULL;
CREATE INDEX acts_customer ON acts (customer, at, act) WHERE person IS NULL AND customer IS NOT NULL;

CREATE TABLE hold_changes ( -- when what was stopped and let go
    n INTEGER PRIMARY KEY,
    scope TEXT NOT NULL,
    at INTEGER NOT NULL,
    change TEXT NOT NULL, -- 'set' or 'released'
    reason TEXT NOT NULL, -- the hold's
    by_hand INTEGER NOT NULL -- 1: a person set or released it
) /*strict*/;
CREATE INDEX hold_changes_scope ON hold_changes (scope, at);
INSERT INTO hold_changes (scope, at, change, reason, by_hand)
    SELECT scope, since, 'set', reason, by_hand FROM holds ORDER BY since;

DROP TRIGGER delivery_changed; -- damage that took a delivery's timeline away must not stop a whole lane
CREATE TRIGGER delivery_changed AFTER UPDATE OF state ON deliveries WHEN OLD.state <> NEW.state BEGIN
    INSERT INTO timeline VALUES (
        NEW.seq, 1 + coalesce((SELECT max(n) FROM timeline WHERE delivery_seq = NEW.seq), 0),
        NEW.updated_at, 'state', NEW.state, NEW.reason, NEW.detail);
    UPDATE counts SET n = n - 1
        WHERE OLD.state NOT IN ('pending', 'sending') AND provider = OLD.provider AND state = OLD.state;
    INSERT INTO counts SELECT NEW.provider, NEW.state, 1 WHERE NEW.state NOT IN ('pending', 'sending')
        ON CONFLICT (provider, state) DO UPDATE SET n = n + 1;
END;

CREATE TABLE reached ( -- how often a delivery came into a state, `sending` aside; only ever grows
    route TEXT NOT NULL,
    provider TEXT NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (route, provider, state)
) WITHOUT ROWID /*, strict*/;
CREATE TRIGGER first_state_reached AFTER INSERT ON deliveries WHEN NEW.state <> 'sending' BEGIN
    INSERT INTO reached VALUES (NEW.route, NEW.provider, NEW.state, 1)
        ON CONFLICT (route, provider, state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER state_reached AFTER UPDATE OF state ON deliveries
WHEN OLD.state <> NEW.state AND NEW.state <> 'sending' BEGIN
    INSERT INTO reached VALUES (NEW.route, NEW.provider, NEW.state, 1)
        ON CONFLICT (route, provider, state) DO UPDATE SET n = n + 1;
END;
"""

_VERSION_4 = """
DROP TRIGGER delivery_added;
DROP TRIGGER delivery_changed;
DROP TRIGGER delivery_forgotten;
DROP TRIGGER first_state_reached;
DROP TRIGGER state_reached;
ALTER TABLE timeline ADD COLUMN cause TEXT; -- why it came into the state; NULL of a row from before, or of no state
ALTER TABLE timeline ADD COLUMN attempt INTEGER; -- the delivery's last attempt then
DROP INDEX events_source; -- a source may number each of its topics by itself
CREATE UNIQUE INDEX events_source ON events (source, source_delivery_id, topic) WHERE source_delivery_id IS NOT NULL;
"""

_VERSION_5 = """
ALTER TABLE holds ADD COLUMN author TEXT; -- the person who set it, where they said so
ALTER TABLE holds ADD COLUMN ends_at INTEGER; -- when it ends by itself; NULL: not before somebody ends it
ALTER TABLE hold_changes ADD COLUMN author TEXT;
ALTER TABLE hold_changes ADD COLUMN ends_at INTEGER;
ALTER TABLE lanes ADD COLUMN down_since INTEGER; -- since when its provider is down, NULL where it is not
"""

_VERSION_6 = """
CREATE TABLE sends ( -- what the limits count: nothing where none is written; see outbox/limits.py
    scope TEXT NOT NULL,
    at INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (scope, at)
) WITHOUT ROWID /*, strict*/;

CREATE TABLE unrouted ( -- events without a delivery that have their bodies; see outbox/retention.py
    event_seq INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL,
    n INTEGER NOT NULL, -- how many there ever were, this one included
    total INTEGER NOT NULL -- their bytes
) /*strict*/;
INSERT INTO unrouted
    SELECT seq, length(body), row_number() OVER (ORDER BY seq), sum(length(body)) OVER (ORDER BY seq)
    FROM events WHERE body IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event_seq = events.seq);
CREATE TABLE tallies (name TEXT NOT NULL PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID /*, strict*/;
INSERT INTO tallies VALUES ('unrouted_dropped', 0);
"""

# Most deliveries are made, claimed and accepted, and nothing else: that is told by their own columns. `steps` says how
# many of these three; what is otherwise is written out into the kept rows first, see app/outbox/move.py.
_VERSION_7 = """
ALTER TABLE timeline RENAME TO timeline_kept;
ALTER TABLE attempts RENAME TO attempts_kept;
ALTER TABLE deliveries ADD COLUMN steps INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN accepted_at INTEGER; -- NULL of what was accepted before
ALTER TABLE receipts ADD COLUMN n INTEGER; -- its place in the timeline; NULL where that has a row of its own
CREATE VIEW attempts AS
    SELECT delivery_seq, number, started_at, ended_at, outcome, reason, detail, tries FROM attempts_kept
    UNION ALL SELECT seq, 1, last_attempt_at, accepted_at, CASE WHEN steps = 3 THEN 'accepted' END, NULL,
        CASE WHEN steps = 3 THEN '' END, CASE WHEN steps = 3 THEN 1 END FROM deliveries WHERE steps >= 2;
CREATE VIEW timeline AS
    SELECT delivery_seq, n, at, kind, value, reason, detail, cause, attempt FROM timeline_kept
    UNION ALL SELECT seq, 1, created_at, 'state', 'pending', NULL, '', 'made', NULL FROM deliveries WHERE steps >= 1
    UNION ALL SELECT seq, 2, last_attempt_at, 'state', 'sending', NULL, '', 'claimed', 1 FROM deliveries
        WHERE steps >= 2
    UNION ALL SELECT seq, 3, accepted_at, 'state', 'accepted', NULL, '', 'ended', 1 FROM deliveries WHERE steps = 3
    UNION ALL SELECT delivery_seq, n, received_at, 'receipt', status, reason, detail, NULL, NULL FROM receipts
        WHERE n IS NOT NULL;
"""

# By a hash alone each row would change a page of its own; so what is new stays at the end, see values.py.
_VERSION_8 = """
DROP INDEX events_person;
DROP INDEX events_customer;
DROP INDEX deliveries_person;
CREATE INDEX events_person ON events (seq >> 8, person) WHERE person IS NOT NULL;
CREATE INDEX events_customer ON events (seq >> 8, customer) WHERE customer IS NOT NULL;
CREATE INDEX deliveries_person ON deliveries (seq >> 8, person) WHERE person IS NOT NULL;
INSERT INTO marks -- the last row that may know a person by a form of their number that is no longer used
    SELECT 'former', max((SELECT coalesce(max(seq), 0) FROM events), (SELECT coalesce(max(seq), 0) FROM deliveries));
"""

# Whose number is known is sought by that, see outbox/find.py. An IN builds a table of its list for each change.
_VERSION_9 = """
DROP INDEX deliveries_unusual;
CREATE INDEX deliveries_unusual ON deliveries (state) WHERE
    state = 'unknown' OR state = 'expired' OR state = 'suppressed' OR state = 'shadow' OR state = 'dead';
DROP INDEX events_customer;
CREATE INDEX events_customer ON events (seq >> 8, customer) WHERE customer IS NOT NULL AND person IS NULL;
INSERT INTO marks VALUES ('traces', 1); -- whatever was wiped before this may have left some, see retention.py
"""

MIGRATIONS: tuple[str, ...] = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
    _VERSION_5,
    _VERSION_6,
    _VERSION_7,
    _VERSION_8,
    _VERSION_9,
)
"""Each brings the database from version n to n + 1. Never change one that was released: add the next."""
