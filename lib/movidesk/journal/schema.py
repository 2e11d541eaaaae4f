"""The journal's tables, and the migrations from older versions.

Besides the recorded data (calls, events, requests, outcomes, queues, waits, members, refusals, trials, notes, counters) two
tables are derived. A query on what they come from would take longer the more there is of it, and callers and verbs need them all
the time:

    next_events     the next event to send of each call, in the order of sending
    speeds          how fast each queue's line moves, from `waits`

Triggers update the first, so that no statement can forget to. The view `owed_events` defines its content. movidesk.journal.waits
updates the second. `counters` say how often something has happened since the file began, for monitoring: also what leaves no row,
and what rows told that were deleted since (movidesk.journal.counters).

What other PBXs of a fleet report (movidesk.journal.pool) is in `shared_queues` and `elsewhere`, and in members and refusals.

After an upgrade the service of the previous version runs until it is restarted, on a file that the first new script has migrated.
So each statement of the previous version must still work: a migration drops nothing that they use. They use the index
`events_urgent` (INDEXED BY), which no statement of this version uses.
"""

from __future__ import annotations

import sqlite3

MIGRATIONS = (
    """
    CREATE TABLE calls (
        id        INTEGER PRIMARY KEY,
        call_id   TEXT NOT NULL UNIQUE,
        uniqueid  TEXT NOT NULL,
        mode      TEXT NOT NULL,
        state     TEXT NOT NULL,
        queue     TEXT NOT NULL DEFAULT '',
        number    TEXT NOT NULL DEFAULT '',
        extension TEXT NOT NULL DEFAULT '',
        code      TEXT NOT NULL DEFAULT '',
        arrived   REAL NOT NULL,
        ended     REAL
    );
    CREATE INDEX calls_uniqueid ON calls (uniqueid, id);
    CREATE INDEX calls_open ON calls (queue, id) WHERE ended IS NULL;
    CREATE INDEX calls_ended ON calls (ended) WHERE ended IS NOT NULL;
    CREATE TABLE events (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,
        call      INTEGER NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
        kind      TEXT NOT NULL,
        at        REAL NOT NULL,
        extension TEXT NOT NULL DEFAULT '',
        link      TEXT NOT NULL DEFAULT '',
        status    TEXT NOT NULL DEFAULT 'pending',
        attempts  INTEGER NOT NULL DEFAULT 0,
        due       REAL NOT NULL DEFAULT 0,
        note      TEXT NOT NULL DEFAULT '',
        settled   REAL
    );
    CREATE INDEX events_call ON events (call, id);
    CREATE INDEX events_pending ON events (call, id) WHERE status = 'pending';
    CREATE INDEX events_refused ON events (id) WHERE status = 'refused';
    CREATE TABLE requests (at REAL NOT NULL);
    CREATE INDEX requests_at ON requests (at);
    CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE calls ADD COLUMN seen_until REAL NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN wants INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE requests ADD COLUMN class INTEGER NOT NULL DEFAULT 1;
    CREATE TABLE queues (
        name  TEXT PRIMARY KEY,
        asked REAL NOT NULL,
        pace  REAL NOT NULL,
        news  INTEGER NOT NULL,
        "full"  INTEGER NOT NULL,
        code  TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX calls_wants ON calls (wants) WHERE wants > 0;
    """,
    """
    UPDATE events SET extension = (SELECT extension FROM calls WHERE calls.id = events.call)
        WHERE status = 'pending' AND kind IN ('canceled', 'lost');
    CREATE INDEX events_urgent ON events (call, id) WHERE status = 'pending'
        AND (kind IN ('transferred', 'start_transferred', 'completed') OR kind IN ('canceled', 'lost') AND extension != '');
    """,
    """
    ALTER TABLE calls ADD COLUMN channel TEXT NOT NULL DEFAULT '';
    UPDATE events SET extension = (SELECT extension FROM calls WHERE calls.id = events.call)
        WHERE status = 'pending' AND kind = 'completed';
    DROP INDEX events_pending;
    CREATE INDEX events_pending ON events (id) WHERE status = 'pending';
    CREATE INDEX events_held ON events (id) WHERE status = 'pending' AND note >= 'waits' AND note < 'waitt';
    CREATE INDEX events_freeing ON events (extension)
        WHERE status = 'pending' AND kind IN ('completed', 'canceled', 'lost') AND extension != '';
    CREATE INDEX calls_agents ON calls (extension)
        WHERE ended IS NULL AND state IN ('offered', 'transferred') AND extension != '';
    CREATE INDEX requests_class ON requests (class, at);

    CREATE VIEW owed_events AS
        SELECT call, event, sort, CASE WHEN sort = 3 THEN queue ELSE '' END AS queue,
               CASE WHEN sort < 2 THEN event ELSE call END AS place, due
        FROM (
            SELECT events.call AS call, events.id AS event, events.due AS due, calls.queue AS queue,
                   CASE WHEN kind IN ('transferred', 'start_transferred') THEN 0
                        WHEN kind = 'completed' OR kind IN ('canceled', 'lost') AND events.extension != '' THEN 1
                        WHEN kind != 'received' THEN 2
                        ELSE 3 END AS sort
            FROM events JOIN calls ON calls.id = events.call
            WHERE status = 'pending' AND NOT (kind = 'received' AND ended IS NULL)
                AND NOT EXISTS (SELECT 1 FROM events AS earlier
                                WHERE earlier.call = events.call AND earlier.id < events.id AND earlier.status = 'pending')
        );
    CREATE TABLE next_events (
        call  INTEGER PRIMARY KEY,
        event INTEGER NOT NULL,
        sort  INTEGER NOT NULL,
        queue TEXT NOT NULL,
        place INTEGER NOT NULL,
        due   REAL NOT NULL
    );
    INSERT INTO next_events SELECT * FROM owed_events;
    CREATE INDEX next_events_ready ON next_events (sort, queue, place) WHERE due = 0;
    CREATE INDEX next_events_later ON next_events (due) WHERE due > 0;
    CREATE TRIGGER events_added AFTER INSERT ON events WHEN NEW.status = 'pending' BEGIN
        INSERT INTO next_events SELECT * FROM owed_events WHERE event = NEW.id;
    END;
    CREATE TRIGGER events_changed AFTER UPDATE OF status, due, extension ON events BEGIN
        DELETE FROM next_events WHERE call = NEW.call;
        INSERT INTO next_events SELECT * FROM owed_events WHERE call = NEW.call;
    END;
    CREATE TRIGGER events_deleted AFTER DELETE ON events WHEN OLD.status = 'pending' BEGIN
        DELETE FROM next_events WHERE call = OLD.call;
        INSERT INTO next_events SELECT * FROM owed_events WHERE call = OLD.call;
    END;
    CREATE TRIGGER calls_ended AFTER UPDATE OF ended ON calls WHEN NEW.ended IS NOT OLD.ended BEGIN
        DELETE FROM next_events WHERE call = NEW.id;
        INSERT INTO next_events SELECT * FROM owed_events WHERE call = NEW.id;
    END;

    CREATE TABLE trials (
        event  INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
        began  REAL NOT NULL,
        failed REAL NOT NULL,
        blamed INTEGER NOT NULL,
        since  REAL NOT NULL
    );
    CREATE TABLE members (
        queue     TEXT NOT NULL,
        extension TEXT NOT NULL,
        named     REAL NOT NULL,
        PRIMARY KEY (queue, extension)
    ) WITHOUT ROWID;
    CREATE INDEX members_extension ON members (extension);
    INSERT OR IGNORE INTO members SELECT queue, extension, 0 FROM calls
        WHERE ended IS NULL AND state IN ('offered', 'transferred') AND queue != '' AND extension != '';
    INSERT OR IGNORE INTO members SELECT calls.queue, events.extension, 0 FROM events JOIN calls ON calls.id = events.call
        WHERE status = 'pending' AND kind IN ('completed', 'canceled', 'lost') AND calls.queue != '' AND events.extension != '';
    CREATE TABLE refusals (
        extension TEXT PRIMARY KEY,
        reason    TEXT NOT NULL,
        since     REAL NOT NULL,
        at        REAL NOT NULL,
        times     INTEGER NOT NULL,
        call      INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE calls ADD COLUMN aside_until REAL NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE outcomes (at REAL NOT NULL, call_id TEXT NOT NULL, outcome TEXT NOT NULL);
    CREATE INDEX outcomes_at ON outcomes (at);
    """,
    """
    ALTER TABLE events ADD COLUMN leased REAL NOT NULL DEFAULT 0;
    """,
    """
    ALTER TABLE calls ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN rank REAL NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN asks_until REAL NOT NULL DEFAULT 0;
    CREATE INDEX calls_line ON calls (queue, rank, id) WHERE ended IS NULL;
    CREATE INDEX calls_asks ON calls (asks_until) WHERE asks_until > 0;
    """,
    """
    ALTER TABLE calls ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN allowed INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE waits (queue TEXT NOT NULL, at REAL NOT NULL, seconds REAL NOT NULL, place INTEGER NOT NULL);
    CREATE INDEX waits_queue ON waits (queue, at);
    CREATE TABLE speeds (
        queue   TEXT PRIMARY KEY,
        at      REAL NOT NULL,
        seconds REAL NOT NULL,
        longest REAL NOT NULL,
        rate    INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE calls ADD COLUMN rings_since REAL NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN rang REAL NOT NULL DEFAULT 0;
    ALTER TABLE members ADD COLUMN phone TEXT NOT NULL DEFAULT '';
    CREATE INDEX calls_ringing ON calls (rings_since) WHERE ended IS NULL AND rings_since > 0;
    """,
    """
    ALTER TABLE calls ADD COLUMN picked_up REAL;
    ALTER TABLE calls ADD COLUMN shown REAL;
    ALTER TABLE calls ADD COLUMN fate TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE counters (
        name    TEXT NOT NULL,
        queue   TEXT NOT NULL,
        label   TEXT NOT NULL,
        bucket  REAL NOT NULL,
        count   INTEGER NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (name, queue, label, bucket)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE requests ADD COLUMN grant_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE requests ADD COLUMN called REAL NOT NULL DEFAULT 0;
    ALTER TABLE requests ADD COLUMN finished REAL NOT NULL DEFAULT 0;
    CREATE INDEX requests_granted ON requests (grant_id) WHERE grant_id > '-';
    CREATE TABLE shared_queues (
        name    TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        asked   REAL NOT NULL,
        pace    REAL NOT NULL,
        news    INTEGER NOT NULL,
        "full"  INTEGER NOT NULL,
        code    TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE elsewhere (
        kind  TEXT NOT NULL,
        name  TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;
    """,
)


def statements(script: str) -> list[str]:
    """The statements of a script; a trigger with its inner statements is one."""
    found, begun = [], ""
    for piece in script.split(";"):
        begun += piece + ";"
        if sqlite3.complete_statement(begun):
            found.append(begun)
            begun = ""
    return found
