"""What the events of the file follow: nothing, or a prefix of the log that has moved into archives."""

import zlib
from collections.abc import Mapping

import msgspec
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text, select
from sqlalchemy.ext.asyncio import AsyncConnection

from llmux.eventstore.chain import EMPTY, Head
from llmux.failures import LogDamaged

ORIGIN = Table(
    "origin",
    MetaData(),
    Column("one", Integer, primary_key=True),
    Column("position", Integer),
    Column("hash", LargeBinary),
    Column("state", LargeBinary),
    Column("state_schema", Integer),
    Column("streams", Text),
)
"""One row, or none."""


class Origin(msgspec.Struct, frozen=True):
    """The end of what is archived.

    `head`          the last event there
    `state`         what follows from all events up to it, as canonical JSON (b"" = nothing is archived)
    `state_schema`  the number that says how to read the state
    `streams`       the last version of every stream that may go on
    """

    head: Head = EMPTY
    state: bytes = b""
    state_schema: int = 0
    streams: Mapping[str, int] = {}

    def row(self) -> dict[str, object]:
        """The values of the row."""
        return {
            "one": 1,
            "position": self.head.position,
            "hash": self.head.hash,
            "state": zlib.compress(self.state),
            "state_schema": self.state_schema,
            "streams": canonical(self.streams).decode(),
        }


def canonical(streams: Mapping[str, int]) -> bytes:
    """Last versions of streams in the one form that is hashed: canonical JSON."""
    return msgspec.json.encode(dict(streams), order="sorted")


async def origin_of(connection: AsyncConnection) -> Origin:
    """The origin as the file has it. Raises LogDamaged."""
    row = (await connection.execute(select(ORIGIN))).first()
    if row is None:
        return Origin()
    try:
        streams = msgspec.json.decode(row.streams, type=dict[str, int])
        return Origin(Head(row.position, row.hash), zlib.decompress(row.state), row.state_schema, streams)
    except (zlib.error, msgspec.DecodeError, TypeError):
        raise LogDamaged("The state that the log goes on from cannot be read. Restore the log from a backup.") from None


async def origin_position(connection: AsyncConnection) -> int:
    """The last position that is archived; 0 when nothing is."""
    found = (await connection.execute(select(ORIGIN.c.position))).scalar_one_or_none()
    return 0 if found is None else int(found)
