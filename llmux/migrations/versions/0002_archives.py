"""Room for archiving, and shorter names of streams.

`origin` says what the events of the file follow, once a prefix of the log has moved into archives: the position and hash of
the last event there, the state after it, and the versions of streams that go on. Names of streams that end with a UUID are
stored with its 16 bytes (hence ANY): they stand in every row and in an index. No event changes by that.
"""

import uuid
from typing import Any

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE events_with_short_names (
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    stream         ANY     NOT NULL,
    version        INTEGER NOT NULL CHECK (version >= 0),
    type           TEXT    NOT NULL,
    schema         INTEGER NOT NULL,
    event_id       ANY     NOT NULL UNIQUE,
    recorded_at    INTEGER NOT NULL,
    principal      TEXT    NOT NULL,
    correlation_id ANY     NOT NULL,
    causation_id   ANY     NOT NULL,
    data           TEXT    NOT NULL,
    prev_hash      BLOB    NOT NULL,
    hash           BLOB    NOT NULL,
    UNIQUE (stream, version)
) STRICT
"""

MOVE = (
    "INSERT INTO events_with_short_names SELECT position, short_stream(stream), version, type, schema, event_id, "
    "recorded_at, principal, correlation_id, causation_id, data, prev_hash, hash FROM events ORDER BY position"
)

KEEP_THE_LAST_POSITION_EVER = """
INSERT INTO sqlite_sequence (name, seq) SELECT 'events_with_short_names', seq FROM sqlite_sequence WHERE name = 'events'
"""

ORIGIN = """
CREATE TABLE origin (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    position     INTEGER NOT NULL,
    hash         BLOB    NOT NULL,
    state        BLOB    NOT NULL,
    state_schema INTEGER NOT NULL,
    streams      TEXT    NOT NULL
) STRICT
"""

NEVER_CHANGED = """
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'an event is never changed'); END
"""

NEVER_REMOVED = """
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'an event is never removed'); END
"""

NO_GAPS = """
CREATE TRIGGER events_have_no_gaps BEFORE INSERT ON events
WHEN NEW.position <> 1 + coalesce((SELECT max(position) FROM events), (SELECT position FROM origin), 0)
BEGIN SELECT raise(ABORT, 'an event takes the next position'); END
"""


def short_stream(stream: str) -> Any:
    """The name as it is stored from now on. Stays as it is: `eventstore.table.packed_stream` may become another one."""
    category, dash, id = stream[:-36], stream[-37:-36], stream[-36:]
    try:
        number = uuid.UUID(id)
    except ValueError:
        return stream
    return category.encode() + number.bytes if len(stream) > 37 and dash == "-" and str(number) == id else stream


def upgrade() -> None:
    driver: Any = op.get_bind().connection.driver_connection
    driver.create_function("short_stream", 1, short_stream, deterministic=True)
    for statement in (
        TABLE,
        MOVE,
        "DELETE FROM sqlite_sequence WHERE name = 'events_with_short_names'",
        KEEP_THE_LAST_POSITION_EVER,
        "DROP TABLE events",
        "ALTER TABLE events_with_short_names RENAME TO events",
        ORIGIN,
        NEVER_CHANGED,
        NEVER_REMOVED,
        NO_GAPS,
    ):
        op.execute(statement)
