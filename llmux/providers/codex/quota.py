"""The quota windows of a Codex account, as its app-server tells them after an answer or when it is asked."""

from collections.abc import Iterator
from typing import Any

from llmux.providers.adapter import QuotaWindow

WARNING_PERCENT = 90


def windows_of(snapshot: Any) -> Iterator[QuotaWindow]:
    """The windows in one snapshot of a limit. What cannot be read, or was not told, is left out."""
    if not isinstance(snapshot, dict):
        return
    limit_id = _text(snapshot.get("limitId")) or "codex"
    prefix = "" if limit_id == "codex" else f"{limit_id[:40]}."
    for name in ("primary", "secondary"):
        window = snapshot.get(name)
        used = window.get("usedPercent") if isinstance(window, dict) else None
        if isinstance(window, dict) and isinstance(used, (int, float)):
            percent = max(0, min(100, int(used)))
            status = "rejected" if percent >= 100 else "warning" if percent >= WARNING_PERCENT else "allowed"
            model = _text(snapshot.get("normalModelSlug")) or "*"
            yield QuotaWindow(prefix + name, status, model, percent, _ms(window.get("resetsAt")))


def windows_read(result: Any) -> tuple[QuotaWindow, ...]:
    """The windows in a reply to account/rateLimits/read: of all limits where they are named, else of the only one."""
    if not isinstance(result, dict):
        return ()
    named = result.get("rateLimitsByLimitId")
    snapshots = list(named.values()) if isinstance(named, dict) and named else [result.get("rateLimits")]
    return tuple(window for snapshot in snapshots for window in windows_of(snapshot))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _ms(seconds: Any) -> int | None:
    return int(seconds * 1000) if isinstance(seconds, (int, float)) and 0 < seconds < 1e11 else None
