"""What the log itself says of its archives: the database must go on from the end of the last of them."""

import hashlib

from llmux.events import LogArchived
from llmux.eventstore.chain import EMPTY
from llmux.eventstore.origin import Origin
from llmux.eventstore.reader import Reader
from llmux.failures import LogDamaged

STREAM = "log-archives"


async def archived_facts(reader: Reader, after: int) -> list[LogArchived]:
    """What the database says of archives after this position, in order."""
    facts: list[LogArchived] = []
    page = reader.limits.read_rows_max
    while events := await reader.read(stream=STREAM, after=after, limit=page, archived=False):
        facts += [fact for event in events if isinstance(fact := event.fact, LogArchived)]
        after = events[-1].position
    return facts


async def check_origin(reader: Reader, origin: Origin) -> None:
    """Raises LogDamaged unless the log says what it goes on from: the end of its last archive, and the hash of the state there."""
    if origin.head == EMPTY:
        return
    first = origin.head.position + 1
    last = [fact for fact in await archived_facts(reader, origin.head.position) if fact.through == origin.head.position]
    if not last:
        raise LogDamaged(
            f"The log goes on from position {first}, and does not say that what came before is archived.", first
        )
    if last[-1].head != origin.head.hash.hex():
        raise LogDamaged("The hash that the log goes on from is not the one of its last archive.", first)
    if last[-1].state_sha256 != hashlib.sha256(origin.state).hexdigest():
        raise LogDamaged("The state that the log goes on from is not the one that was sealed.", first)
