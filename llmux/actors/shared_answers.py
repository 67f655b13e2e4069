"""The answers that several gateways share in Redis. Redis away means slower: never wrong, and never down.

Every look is bounded in time. After a failure Redis is left alone for a while, longer each time; then one look tries it again.
"""

import msgspec
import structlog
import trio

from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.sealed_answers import Sealer
from llmux.clock import Clock
from llmux.config import Settings
from llmux.failures import GatewayFailure, RedisRefused
from llmux.logs import report
from llmux.redis import Redis

log = structlog.get_logger()


class SharedStatistics(msgspec.Struct, frozen=True):
    """How Redis has done since the start. `reachable`: the last look got an answer (True before the first)."""

    reachable: bool
    hits: int = 0
    misses: int = 0
    kept: int = 0
    skipped: int = 0
    """looks and keepings that were left out while Redis rested"""
    away: int = 0
    """no answer in time, or nobody there"""
    refused: int = 0
    """Redis said no: it is full, read-only, or holds something else there"""
    undecodable: int = 0
    """values that this house did not make, or not in this form: a miss"""
    too_large: int = 0


class SharedAnswers:
    """Answers in Redis, by fingerprint. `look` and `keep` never raise; `run` is the task in which the connections live."""

    def __init__(self, settings: Settings, secret: bytes, clock: Clock):
        limits = settings.limits
        self._limits = limits
        self._clock = clock
        self._redis = Redis(
            settings.redis_url, wait_ms_max=limits.redis_wait_ms_max, connections_max=limits.redis_connections_max
        )
        self._sealer = Sealer(secret, settings.redis_namespace)
        self._prefix = f"llmux:{settings.redis_namespace}:"
        self._counts = dict.fromkeys(SharedStatistics.__struct_fields__[1:], 0)
        self._failures = 0
        """in a row"""
        self._rests_until = 0.0
        self._failed_at = 0.0

    def __repr__(self) -> str:
        return f"<SharedAnswers {'reachable' if not self._failures else 'resting'}>"

    def statistics(self) -> SharedStatistics:
        return SharedStatistics(not self._failures, **self._counts)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the connections until it is cancelled."""
        while True:
            try:
                async with self._redis.connected():
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await trio.sleep_forever()
            except Exception as error:  # of the client's own tasks: the gateway goes on, and so does the cache, anew
                report(error, "the connections to Redis broke down")
                await trio.sleep(self._limits.redis_rest_ms / 1000)

    async def look(self, fingerprint: str) -> CachedAnswer | None:
        """The answer for this fingerprint, if Redis has it and says so in time."""
        if self._resting():
            return None
        bytes_max, began = self._limits.redis_value_bytes_max, self._clock.monotonic()
        try:
            value = await self._redis.read(self._key(fingerprint), bytes_max)
        except GatewayFailure as failure:
            self._failed(failure, began)
            return None
        self._answered()
        answer = None
        if value is not None and len(value) <= bytes_max:
            try:
                answer = self._sealer.open(fingerprint, value, self._clock.now())
            except ValueError:
                self._counts["undecodable"] += 1
        elif value is not None:
            self._counts["too_large"] += 1
        self._counts["misses" if answer is None else "hits"] += 1
        return answer

    async def keep(self, fingerprint: str, answer: CachedAnswer, ttl_ms: int) -> None:
        """Holds this answer for so long, if Redis takes it in time."""
        value = self._sealer.seal(fingerprint, answer, self._clock.now() + ttl_ms)
        if len(value) > self._limits.redis_value_bytes_max:
            self._counts["too_large"] += 1
            return
        if self._resting():
            return
        began = self._clock.monotonic()
        try:
            await self._redis.write(self._key(fingerprint), value, ttl_ms)
        except GatewayFailure as failure:
            self._failed(failure, began)
        else:
            self._answered()
            self._counts["kept"] += 1

    async def clear(self) -> int:
        """Removes all answers of the namespace; how many these were. Raises RedisAway or RedisRefused."""
        return await self._redis.remove_all(self._prefix, ms_max=self._limits.redis_clear_ms_max)

    def _key(self, fingerprint: str) -> str:
        return self._prefix + fingerprint

    def _resting(self) -> bool:
        """Whether Redis is to be left alone now. The first to come after its rest tries it; nobody else does until then."""
        if not self._failures:
            return False
        now = self._clock.monotonic()
        if now < self._rests_until:
            self._counts["skipped"] += 1
            return True
        self._rests_until = now + self._limits.redis_wait_ms_max / 1000
        return False

    def _answered(self) -> None:
        if self._failures:
            log.info("Redis answers again", failures=self._failures)
        self._failures = 0

    def _failed(self, failure: GatewayFailure, began: float) -> None:
        """A look or keeping that began then has failed. Those that failed side by side count as one."""
        if isinstance(failure, RedisRefused):  # it is there
            self._counts["refused"] += 1
            self._answered()
            return
        self._counts["away"] += 1
        if began < self._failed_at:
            return
        self._failed_at = self._clock.monotonic()
        if not self._failures:
            log.warning("Redis does not answer; the cache is without it for a while", code=failure.code)
        rest_ms = min(self._limits.redis_rest_ms << min(self._failures, 20), self._limits.redis_rest_ms_max)
        self._failures += 1
        self._rests_until = self._failed_at + rest_ms / 1000
