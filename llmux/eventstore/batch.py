"""What the writer writes together, and what it counts."""

from collections.abc import Sequence
from copy import copy

import msgspec

from llmux.eventstore.append import Outcome, Prepared
from llmux.failures import StoreFailure


class Batch(msgspec.Struct):
    """What is to be written together, and `now`, the wall time it gets. `tried`: what the short way has failed with."""

    entries: Sequence[Prepared | StoreFailure]
    now: int
    tried: StoreFailure | None = None


class Counts(msgspec.Struct):
    """What the writer has done since it was opened."""

    transactions: int = 0
    """commits: each is one fsync"""
    failed: int = 0
    """transactions that came to nothing, or whose outcome is unknown"""
    appends: int = 0
    events: int = 0
    repeated: int = 0
    refused: int = 0

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """These outcomes were given."""
        for outcome in outcomes:
            if isinstance(outcome, StoreFailure):
                self.refused += 1
            elif outcome.repeated:
                self.repeated += 1
            else:
                self.appends += 1
                self.events += len(outcome.events)


def all_failed(entries: Sequence[Prepared | StoreFailure], failure: StoreFailure) -> list[Outcome]:
    """The same failure for all that would have been written, as an exception of its own for each who waits."""
    outcomes: list[Outcome] = []
    for entry in entries:
        if not isinstance(entry, StoreFailure):
            entry_failure = copy(failure)
            entry_failure.__cause__ = failure.__cause__
            outcomes.append(entry_failure)
        else:
            outcomes.append(entry)
    return outcomes
