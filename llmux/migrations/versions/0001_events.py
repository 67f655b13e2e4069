"""The table of events.

Text and numbers are typed strictly. Ids may be 16 bytes (a UUID) or text, hence ANY. Positions are never given twice
(AUTOINCREMENT keeps the last one ever given, which also shows when a tail was cut off), and no event is changed or removed.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE events (
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    stream         TEXT    NOT NULL,
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
WHEN NEW.position <> (SELECT coalesce(max(position) + 1, NEW.position) FROM events)
BEGIN SELECT raise(ABORT, 'an event takes the next position'); END
"""


def upgrade() -> None:
    for statement in (TABLE, NEVER_CHANGED, NEVER_REMOVED, NO_GAPS):
        op.execute(statement)
