"""What a subscription has used of its quota, asked without spending tokens: the CLI asks its vendor itself, with its own login."""

import datetime
from collections.abc import Mapping
from typing import Any

import trio

from llmux.failures import ProviderFailure
from llmux.providers.adapter import Place, QuotaWindow
from llmux.providers.claude import login
from llmux.providers.claude.signs import number
from llmux.providers.claude.wire import encode, next_line
from llmux.providers.process import LineTooLong, running

WINDOWS = ("five_hour", "seven_day")
"""the windows that cover the whole account; those of single models follow from answers, which know their model"""
WARNING_PERCENT = 90

_REQUESTS = (
    {"type": "control_request", "request_id": "c1", "request": {"subtype": "initialize", "systemPrompt": []}},
    {"type": "control_request", "request_id": "c2", "request": {"subtype": "get_usage"}},
)
_UNASKED = (login.LOGIN_VARIABLE, "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""a token in the environment is good for answers only; with a key, or another server, there is no subscription to ask for"""


def can_be_asked(place: Place) -> bool:
    """Whether the CLI has the stored login of a subscription, and talks to its vendor."""
    return not any(name in login.environment(place) for name in _UNASKED)


async def windows(place: Place, argv: list[str]) -> tuple[QuotaWindow, ...]:
    """Asks with a process of its own, which is gone when this returns. () when nothing can be learned; never raises.

    The processes that answer prompts cannot be asked: what keeps them quiet keeps them from asking this, too.
    """
    env, limits = login.talkative_environment(place), place.limits
    found: tuple[QuotaWindow, ...] = ()
    with trio.move_on_after(limits.call_ms_max / 1000):
        try:
            async with running(argv, env=env, cwd=login.empty_dir(place), limits=limits) as process:
                for request in _REQUESTS:
                    await process.send(encode(request))
                while True:
                    response = (await next_line(process)).get("response")
                    if isinstance(response, dict) and response.get("request_id") == "c2":
                        found = read(response)
                        break
        except (ProviderFailure, LineTooLong):
            found = ()
    return found


def read(response: Mapping[str, Any]) -> tuple[QuotaWindow, ...]:
    """The windows in an answer to `get_usage`. What is not as expected is left out."""
    said = response.get("response")
    limits = said.get("rate_limits") if isinstance(said, dict) else None
    if not isinstance(limits, dict):
        return ()
    read = (_window(name, limits.get(name)) for name in WINDOWS)
    return tuple(window for window in read if window is not None)


def _window(name: str, said: object) -> QuotaWindow | None:
    percent = number(said.get("utilization")) if isinstance(said, dict) else None
    if percent is None or not isinstance(said, dict):
        return None
    used = max(0, min(100, round(percent)))
    status = "rejected" if used >= 100 else "warning" if used >= WARNING_PERCENT else "allowed"
    return QuotaWindow(name, status, used_percent=used, resets_at=_moment_ms(said.get("resets_at")))


def _moment_ms(text: object) -> int | None:
    """Wall time to the full minute: answers tell the same moment in whole seconds, this with a fraction more or less."""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() / 60) * 60_000
