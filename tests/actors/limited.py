"""Keys with limits, for tests of what those lead to."""

from typing import Any

from llmux.actors.messages import Principal
from llmux.actors.system import System
from llmux.events import KeyIssued, KeyLimited, KeyLimits, NewEvent


async def key_with(system: System, id: str = "k1", expires_at: int | None = None, **limits: Any) -> Principal:
    """A key with these limits; one that was issued before gets them instead of its own."""
    wanted = KeyLimits(**limits)
    fact: KeyIssued | KeyLimited
    if id in system.facts.keys:
        fact = KeyLimited(key_id=id, limits=wanted, expires_at=expires_at)
    else:
        fact = KeyIssued(
            key_id=id, secret_sha256="0" * 64, user="ann", project="garden", limits=wanted, expires_at=expires_at
        )
    await system.journal.append(NewEvent(f"key-{id}", fact, system.clock.new_id(), "admin"))
    return Principal(id, "ann", "garden", frozenset({"use"}))
