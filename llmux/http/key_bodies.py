"""What the admin API for keys reads and writes, and how a key looks there. `llmux keys` uses the same structs.

Fields that nobody knows are refused everywhere: a misspelled limit must not make a key without one.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llmux.actors.facts import Facts
from llmux.actors.facts.keys import Key
from llmux.actors.facts.windows import MINUTE_MS, Window, rolled
from llmux.actors.key_registry import IssuedKey, IssueKey, LimitKey
from llmux.actors.key_terms import AMOUNT_MAX, NAMES_MAX
from llmux.actors.measures import still_counting
from llmux.events import KeyLimits
from llmux.http.exchange import iso

Amount = Annotated[int, Meta(ge=1, le=AMOUNT_MAX)]
Names = Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(min_length=1, max_length=NAMES_MAX)]
Moment = Annotated[datetime, Meta(tz=True)]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What a key may ask for. null means: as much as it likes.

    Tokens are those of prompts and answers together. Minutes slide; days and months are those of UTC. A model's name that ends
    with "*" stands for all names that begin so.
    """

    requests_per_minute: Amount | UnsetType | None = UNSET
    requests_per_day: Amount | UnsetType | None = UNSET
    requests_per_month: Amount | UnsetType | None = UNSET
    tokens_per_minute: Amount | UnsetType | None = UNSET
    tokens_per_day: Amount | UnsetType | None = UNSET
    tokens_per_month: Amount | UnsetType | None = UNSET
    concurrent_requests: Amount | UnsetType | None = UNSET
    models: Names | UnsetType | None = UNSET
    providers: Names | UnsetType | None = UNSET


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a key is for, what it may, and until when it is good (a time with its zone; null: for ever)."""

    userId: str = ""
    projectId: str = ""
    label: str = ""
    recordContent: bool = False
    limits: Limits = Limits()
    expiresAt: Moment | None = None

    def command(self) -> IssueKey:
        """The command that makes such a key."""
        return IssueKey(
            user=self.userId,
            project=self.projectId,
            label=self.label,
            record_content=self.recordContent,
            limits=msgspec.structs.replace(KeyLimits(), **changes_of(self.limits)),
            expires_at=None if self.expiresAt is None else _ms(self.expiresAt),
        )


class KeyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be another with a key. A field that is not there stays as it is; null takes a limit, or the end, away."""

    limits: Limits = Limits()
    expiresAt: Moment | UnsetType | None = UNSET
    recordContent: bool | UnsetType = UNSET

    def command(self, key_id: str) -> LimitKey:
        """The command that changes this key so."""
        ends = self.expiresAt
        return LimitKey(
            key_id=key_id,
            limits=changes_of(self.limits),
            expires_at=_ms(ends) if isinstance(ends, datetime) else ends,
            record_content=self.recordContent,
        )


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No body, or an empty object."""


class Issued(msgspec.Struct, frozen=True):
    """A key with its secret, which is shown here and nowhere else."""

    apiKey: str
    userId: str
    projectId: str
    id: str
    limits: Limits
    expiresAt: str | None


class Used(msgspec.Struct, frozen=True, rename="camel"):
    """What counts against the limits at this moment, whether or not there is a limit. A minute is the sliding one."""

    requests_per_minute: int
    requests_per_day: int
    requests_per_month: int
    tokens_per_minute: int
    tokens_per_day: int
    tokens_per_month: int
    concurrent_requests: int


class KeyBody(msgspec.Struct, frozen=True):
    """A key without its secret; `recordContent` is there where it is true."""

    id: str
    key: str
    userId: str
    projectId: str
    label: str
    createdAt: str
    revoked: bool
    state: Literal["good", "expired", "revoked"]
    limits: Limits
    expiresAt: str | None
    rotatedAt: str | None
    used: Used
    recordContent: bool | UnsetType = UNSET


class AllKeys(msgspec.Struct, frozen=True):
    """All keys, the revoked ones too, in the order in which they were made."""

    keys: list[KeyBody]


class Revoked(msgspec.Struct, frozen=True):
    """Whether there was such a key, not revoked until now."""

    success: bool


def issued_body(issued: IssuedKey, facts: Facts) -> Issued:
    """A key that was made, or has a new secret, a moment ago."""
    key = facts.keys[issued.id]
    return Issued(issued.secret_key, key.user, key.project, key.id, limits_body(key.limits), _iso(key.expires_at))


def all_keys(facts: Facts, now: int) -> AllKeys:
    """Every key. `now` is wall time in ms."""
    under_way = Counter(request.principal for request in facts.requests.open.values())
    keys = sorted(facts.keys.values(), key=lambda key: (key.issued_at, key.id))
    return AllKeys([_key_body(key, facts, under_way, now) for key in keys])


def key_body(key: Key, facts: Facts, now: int) -> KeyBody:
    """One key as the list shows it."""
    return _key_body(key, facts, Counter(request.principal for request in facts.requests.open.values()), now)


def limits_body(limits: KeyLimits) -> Limits:
    """All limits, with null where there is none."""
    return Limits(**{field: getattr(limits, field) or None for field in KeyLimits.__struct_fields__})


def changes_of(limits: Limits) -> dict[str, Any]:
    """The fields of KeyLimits that are given, with their new values."""
    given = {field: getattr(limits, field) for field in KeyLimits.__struct_fields__}
    none: dict[str, list[str]] = {"models": [], "providers": []}
    return {field: none.get(field) if value is None else value for field, value in given.items() if value is not UNSET}


def _key_body(key: Key, facts: Facts, under_way: Mapping[str, int], now: int) -> KeyBody:
    revoked = key.revoked_at is not None
    return KeyBody(
        id=key.id,
        key=f"sk-lmx_{key.id}_…",
        userId=key.user,
        projectId=key.project,
        label=key.label,
        createdAt=iso(key.issued_at),
        revoked=revoked,
        state="revoked" if revoked else "good" if key.opens(now) else "expired",
        limits=limits_body(key.limits),
        expiresAt=_iso(key.expires_at),
        rotatedAt=_iso(key.rotated_at),
        used=_used(facts.windows.get(key.id) or Window(), under_way.get(key.id, 0), now),
        recordContent=key.record_content or UNSET,
    )


def _used(window: Window, under_way: int, now: int) -> Used:
    window = rolled(window, now)
    ends = (window.minute + 1) * MINUTE_MS
    return Used(
        requests_per_minute=window.requests_minute + still_counting(window.requests_minute_before, ends, now),
        requests_per_day=window.requests_day,
        requests_per_month=window.requests_month,
        tokens_per_minute=window.tokens_minute + still_counting(window.tokens_minute_before, ends, now),
        tokens_per_day=window.tokens_day,
        tokens_per_month=window.tokens_month,
        concurrent_requests=under_way,
    )


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _iso(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)
