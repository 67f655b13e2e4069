"""Forgetting kept text: what can be named, and the one way in which a deletion and its fact in the log cannot come apart.

The text goes first, and only then does the log say so: what the log says is true. The deletion leaves a note of itself in the
file of kept texts, in the same transaction, which stays there until the log knows: a crash between the two loses no fact.
"""

import msgspec

from llmux.actors.actor import Message
from llmux.actors.journal import Journal
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import ContentForgotten, NewEvent
from llmux.eventstore import ContentStore, Forgetting, open_content
from llmux.failures import ClientFailure, printable

STREAM = "content"


class Forget(Message[int], frozen=True):
    """Delete kept text for good: of one request, of one key, or all that was recorded before a wall time in ms.

    Exactly one of the three is given. The reply, how many texts it were, comes when they are in no file any more and the log
    says so. What is still open of a named request or key counts as well, and will not be kept.
    """

    request: str = ""
    key: str = ""
    before: int | None = None
    principal: str = "admin"
    held_back: int = 0
    """texts that would have been kept and now will not be: `ContentKeeper.forget` counts them"""


def fact_of(which: Forget, now: int) -> ContentForgotten:
    """What will be recorded, as far as it is known. Raises ClientFailure unless exactly one thing is named."""
    if bool(which.request) + bool(which.key) + (which.before is not None) != 1:
        raise ClientFailure("Say what to forget: one of request, key and before.", code="forget_what")
    if which.before is not None:
        if not 0 <= which.before <= now:
            raise ClientFailure("before: this lies in the future; nothing is recorded there yet.", param="before")
        return ContentForgotten(scope="before", answers=0, before=which.before)
    for name, value in (("request", which.request), ("key", which.key)):
        if printable(value, 200) != value:
            raise ClientFailure(f"{name} is an id of at most 200 characters.", param=name)
    if which.request:
        return ContentForgotten(scope="request", answers=0, request=which.request)
    return ContentForgotten(scope="key", answers=0, key=which.key)


async def delete(store: ContentStore, journal: Journal, clock: Clock, fact: ContentForgotten, principal: str) -> int:
    """Deletes, tells the log, and returns how many texts it were; `fact.answers` counts those that are not kept to begin with.

    What an earlier deletion owes to the log is told as well. Raises StoreFailure; then it can simply be done again.
    """
    pending = await store.forget(Forgetting(clock.new_id(), principal, fact), clock.now())
    for each in pending:  # each under its own event id: telling twice changes nothing
        await journal.append(NewEvent(STREAM, each.fact, each.event_id, each.principal))
        await store.recorded(each.event_id)
    meant = msgspec.structs.replace(fact, answers=0)
    return sum(each.fact.answers for each in pending if msgspec.structs.replace(each.fact, answers=0) == meant)


async def forget_alone(journal: Journal, settings: Settings, clock: Clock, which: Forget) -> int:
    """Forgets where no gateway runs, and returns how many texts it were: the caller has the journal open, and so owns all files."""
    fact = fact_of(which, clock.now())
    async with open_content(settings.data_dir, settings.limits) as store:
        return await delete(store, journal, clock, fact, which.principal)
