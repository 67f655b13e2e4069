"""Keeps the text of prompts and answers where that was asked for, and forgets it: when it is old, and when somebody says so.

It sees the end of a request where everybody does, at the commit of its terminal fact, and never stands in its way: what
cannot be kept (a full mailbox, a database in trouble, no room) is counted, and said in the log and in `/health`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog
import trio

from llmux.actors.actor import Actor, Message, Reply
from llmux.actors.facts.keys import Key
from llmux.actors.forgetting import Forget, delete, fact_of
from llmux.actors.journal import Journal
from llmux.actors.keeping import Keep, content_of, keep_of
from llmux.actors.messages import Principal
from llmux.actors.request import Request
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import (
    ContentForgotten,
    RecordedEvent,
)
from llmux.eventstore import CONTENT_FILE, ContentStore, KeptContent, open_content
from llmux.failures import (
    ConfigurationWrong,
    LLMuxError,
    Overloaded,
    ShuttingDown,
    StoreFailure,
)
from llmux.metrics import Metrics

log = structlog.get_logger()

SWEEP_INTERVAL_S = 3600
DAY_MS = 24 * 3600 * 1000
DRAIN_S_MAX = 10
"""how long the stop of the gateway waits for texts that are not written yet"""
_OPEN_MANY = 1_000
_ENDS = frozenset({"RequestCompleted", "RequestFailed", "RequestCancelled"})


class ReadContent(Message[KeptContent | None], frozen=True):
    """Show the text that is kept of a request."""

    request: str


class ContentStatistics(msgspec.Struct, frozen=True):
    """What was kept, lost and forgotten since the start, and what is on disk. `trouble` is a sentence, "" when all is well."""

    kept: int
    lost: int
    forgotten: int
    waiting: int
    file_bytes: int
    bytes_max: int
    retention_days: int | None
    trouble: str


class ContentKeeper(Actor):
    """The one that has the file of kept texts open. `expect` announces a request, `observe` sees its end."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock, metrics: Metrics):
        limits = settings.limits
        super().__init__("content", mailbox_max=limits.content_waiting_max, ask_ms_max=limits.forget_ms_max)
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._store: ContentStore | None = None
        self._open: dict[str, Request] = {}
        """requests whose text will be kept at their end"""
        self._look_over_at = _OPEN_MANY
        self._waiting_bytes = 0
        self._kept = self._lost = self._forgotten = 0
        self._trouble = ""
        self._warned: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether there is text to keep or to forget at all."""
        settings = self._settings
        return settings.content_retention_days is not None or (settings.data_dir / CONTENT_FILE).exists()

    def counts(self) -> ContentStatistics:
        store = self._store
        return ContentStatistics(
            self._kept,
            self._lost,
            self._forgotten,
            self.statistics().waiting,
            store.file_bytes if store is not None else 0,
            self._settings.limits.content_bytes_max,
            self._settings.content_retention_days,
            self._trouble,
        )

    # --- requests ---------------------------------------------------------------------------------------------------

    def wants(self, principal: Principal) -> bool:
        """Whether the text of this principal's requests is to be kept."""
        if self._settings.content_retention_days is None:
            return False
        if self._settings.record_content:
            return True
        key = self._journal.facts.keys.get(principal.id)
        return key is not None and key.record_content

    def expect(self, request: Request) -> None:
        """The text of this request is kept once its terminal fact is on disk, if it is wanted."""
        if not self.wants(request.wish.principal):
            return
        self._open[request.id] = request
        if len(self._open) > self._look_over_at:  # a request that the log never took on has no terminal fact
            known = self._journal.facts.requests.open
            self._open = {id: each for id, each in self._open.items() if not each.ended or id in known}
            self._look_over_at = max(_OPEN_MANY, 2 * len(self._open))

    def observe(self, recorded: Iterable[RecordedEvent]) -> None:
        """The journal has committed these events. Never waits, never raises."""
        if not self._open:
            return
        for event in recorded:
            if event.type in _ENDS:
                request = self._open.pop(event.correlation_id, None)
                if request is not None:
                    self._ended(request, event)

    def _ended(self, request: Request, event: RecordedEvent) -> None:
        keep = keep_of(request, event)
        if self._waiting_bytes + keep.bytes > self._settings.limits.content_waiting_bytes_max:
            self._lose(1, "waiting", "too much text is waiting to be written")
            return
        try:
            self.tell(keep)
        except LLMuxError as failure:
            self._lose(1, "waiting", str(failure))
        else:
            self._waiting_bytes += keep.bytes

    def _lose(self, texts: int, reason: str, why: str) -> None:
        self._lost += texts
        self._metrics.content_lost(reason, texts)
        if reason not in self._warned:
            self._warned.add(reason)
            log.warning("text of a request is not kept", reason=reason, why=why)

    # --- forgetting -------------------------------------------------------------------------------------------------

    async def forget(self, which: Forget) -> int:
        """Forgets, and returns how many texts it were. Raises ClientFailure where it is not clear what is meant, and StoreFailure.

        A second time it finds nothing, and records nothing.
        """
        fact_of(which, self._clock.now())
        held_back = {
            id: request
            for id, request in self._open.items()
            if id == which.request or (which.key and request.wish.principal.id == which.key)
        }
        self._open = {id: request for id, request in self._open.items() if id not in held_back}
        try:
            return await self.ask(msgspec.structs.replace(which, held_back=len(held_back)))
        except Overloaded:
            self._open |= held_back
            raise

    async def _delete(self, store: ContentStore, fact: ContentForgotten, principal: str) -> int:
        texts = await delete(store, self._journal, self._clock, fact, principal)
        self._forgotten += texts
        return texts

    async def _sweep(self, store: ContentStore) -> None:
        """Forgets what is older than it may be: by the retention it was kept under, and by the present one."""
        days = self._settings.content_retention_days
        before = None if days is None else self._clock.now() - days * DAY_MS
        try:
            await self._delete(store, ContentForgotten(scope="retention", answers=0, before=before), "gateway")
        except LLMuxError as failure:
            self._note(failure)
        else:
            self._note(None)

    def _note(self, failure: LLMuxError | None) -> None:
        """How the last work on the file went."""
        trouble = "" if failure is None else str(failure)
        if trouble and not self._trouble:
            log.error("kept texts are in trouble", why=trouble)
        elif self._trouble and not trouble:
            log.info("kept texts are well again")
        self._trouble = trouble

    # --- its life ---------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps, forgets and sweeps until it is cancelled; then what is in the mailbox is still written."""
        task_status.started()
        if not self.active:
            await super().run()
            return
        async with open_content(self._settings.data_dir, self._settings.limits) as store:
            self._store = store
            try:
                await self._work(store)
            except trio.Cancelled:
                with trio.move_on_after(DRAIN_S_MAX, shield=True):
                    await self._drain(store)
                raise
            finally:
                self._store = None

    async def _work(self, store: ContentStore) -> None:
        sweep_at = self._clock.monotonic()
        while True:
            item = None
            with trio.move_on_at(sweep_at):
                item = await self._receive.receive()
            if item is not None:
                await self._do(store, item)
            if self._clock.monotonic() >= sweep_at:
                await self._sweep(store)
                sweep_at = self._clock.monotonic() + SWEEP_INTERVAL_S

    async def _do(self, store: ContentStore, item: tuple[Any, Reply | None] | None) -> None:
        """One message, or all the texts that wait, in one transaction, and the message after them."""
        batch: list[Keep] = []
        while item is not None and isinstance(item[0], Keep):
            batch.append(item[0])
            item = self._next()
        if batch:
            await self._keep(store, batch)
        if item is not None:
            await self._handle_one(*item)

    def _next(self) -> tuple[Any, Reply | None] | None:
        try:
            return self._receive.receive_nowait()
        except trio.WouldBlock:
            return None

    async def _drain(self, store: ContentStore) -> None:
        batch = []
        while (item := self._next()) is not None:
            message, reply = item
            if isinstance(message, Keep):
                batch.append(message)
            elif reply is not None:
                reply.fail(ShuttingDown("The gateway is stopping."))
        if batch:
            await self._keep(store, batch)

    async def handle(self, message: Forget | ReadContent) -> int | KeptContent | None:
        store = self._store
        if store is None:  # nothing is kept here, and nothing ever was
            return 0 if isinstance(message, Forget) else None
        if isinstance(message, ReadContent):
            return await store.read(message.request)
        fact = msgspec.structs.replace(fact_of(message, self._clock.now()), answers=message.held_back)
        return await self._delete(store, fact, message.principal)

    async def _keep(self, store: ContentStore, batch: list[Keep]) -> None:
        now, days = self._clock.now(), self._settings.content_retention_days or 0
        contents = [content_of(each, now, now + days * DAY_MS) for each in batch]
        self._waiting_bytes -= sum(each.bytes for each in batch)
        self._handled += len(batch)
        try:
            with trio.CancelScope(shield=True):
                done = await store.keep(contents)
        except StoreFailure as failure:
            self._note(failure)
            self._lose(len(batch), failure.code, str(failure))
            return
        self._note(None)
        self._kept += done.kept
        self._metrics.content_kept(done.kept)
        if done.too_large:
            self._lose(done.too_large, "too_large", "a text is larger than [limits] content_row_bytes_max")
        if done.no_room:
            self._lose(done.no_room, "no_room", "the file has reached [limits] content_bytes_max")


def require_retention(settings: Settings, keys: Mapping[str, Key]) -> None:
    """Raises ConfigurationWrong when a good key's text is to be kept and nobody has said for how long."""
    if settings.content_retention_days is not None:
        return
    for key in keys.values():
        if key.record_content and key.revoked_at is None:
            raise ConfigurationWrong(
                f"The text of requests with the key {key.id} is to be kept, but nobody has said for how long. Set "
                "CONTENT_RETENTION_DAYS to a number of days; then that key can also be revoked."
            )
