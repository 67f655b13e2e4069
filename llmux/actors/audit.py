"""Verifies a whole log, its archives included: also that each sealed state is what the events before it lead to."""

from collections.abc import Callable, Collection, Sequence

import msgspec

from llmux.actors.facts import EMPTY, SCHEMA, evolve
from llmux.actors.replaying import loaded, skips
from llmux.events import Line
from llmux.eventstore import NO_KEYS, Archive, Auditor, Ending, Keys, Reader, Verified, verify, walk_archives
from llmux.failures import LogDamaged


class Audited(msgspec.Struct, frozen=True):
    """The log is whole, and so are its `archives`."""

    verified: Verified
    archives: int


async def audit(
    reader: Reader,
    *,
    first: int | None = None,
    keys: Keys = NO_KEYS,
    progress: Callable[[int, int], object] | None = None,
) -> Audited:
    """As `verify`, from the log's first event on, or from the archive that holds the position `first`.

    Every archive must be the file that the log says, follow the one before, and end with the state that its events lead to.
    (A state that an older version sealed cannot be compared; its hash is.) Raises what `verify` raises, and ArchiveMissing.
    """
    while True:
        origin = (await reader.origin()).head
        if not origin.position or (first is not None and first > origin.position):
            return Audited(await verify(reader, first=first, keys=keys, progress=progress), 0)
        try:
            return await _audit(reader, first or 1, keys, progress)
        except LogDamaged:
            if (await reader.origin()).head == origin:
                raise  # else events moved into archives meanwhile


async def _audit(reader: Reader, first: int, keys: Keys, progress: Callable[[int, int], object] | None) -> Audited:
    refold = Refold(await skips(reader))
    walk, files = await walk_archives(reader, refold, first=first, keys=keys, progress=progress)
    return Audited(await verify(reader, walk=walk, keys=keys, progress=progress), files)


class Refold(Auditor):
    """Folds archived events anew, and compares with every state that was sealed on the way."""

    def __init__(self, skipped: Collection[int]):
        self.facts = EMPTY
        self._skipped = skipped

    def begin(self, through: int, ending: Ending) -> None:
        self.facts = loaded(bytes(ending.state), ending.state_schema, through)
        if self.facts.position != through:
            raise LogDamaged(
                f"The state at position {through} was sealed by an older LLMux, so nothing can be folded from there. "
                "Check all archives: leave --from away."
            )

    def take(self, lines: Sequence[Line]) -> None:
        self.facts = evolve(self.facts, lines, self._skipped)

    def end(self, archive: Archive, ending: Ending) -> None:
        if ending.state_schema == SCHEMA and loaded(bytes(ending.state), SCHEMA, archive.through) != self.facts:
            raise LogDamaged(f"The state in {archive.path} is not what the events lead to.", archive.through)
