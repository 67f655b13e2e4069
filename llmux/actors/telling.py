"""A request's story in plain sentences."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmux.actors.stories import Attempt, LeftOut, Story

_WHO = {"local": "The local user", "admin": "The admin", "api-key": "The holder of the configured API key"}
_WHY = {
    "quota_exhausted": "its quota was spent",
    "rate_limited": "it had asked for fewer requests",
    "overloaded": "it was overloaded",
    "unavailable": "it could not be reached",
    "timed_out": "it had not answered in time",
    "logged_out": "it was not logged in",
    "ineligible": "its account may not use it",
    "cannot_embed": "it makes no embeddings",
    "not_allowed": "the key may not ask for it",
    "not_installed": "its program was not installed",
    "half_open": "its rest was over and another request was trying it",
    "crashed": "its actor had crashed too often",
}


_CANCELLED = {
    "client": "The client left",
    "key_revoked": "Its key was revoked",
    "key_rotated": "Its key got another secret",
    "key_expired": "Its key expired",
}


def told(story: "Story") -> list[str]:
    """The story, from who asked to what came of it."""
    return [
        _asked(story),
        *_routed(story),
        *(_left_out(each) for each in story.exclusions),
        *(_attempted(each) for each in story.attempts),
        _ended(story),
    ]


def _asked(story: "Story") -> str:
    who = _WHO.get(story.principal, f"Key {story.principal}")
    what = f"the model '{story.model}'" if story.model else "an answer of any model"
    how = ", as a stream" if story.stream else ""
    return f"{who} asked for {what} through {story.endpoint}{how} at {story.accepted_at}; the prompt had {story.prompt_bytes} bytes."


def _routed(story: "Story") -> list[str]:
    if story.cache == "hit":
        return ["The cache had the answer, so no provider was asked."]
    routes = [f"{_route(each)} (weight {each.weight})" for each in story.candidates]
    if not routes:
        return ["No route could be taken."]
    if len(routes) == 1:
        one = "It named its provider: there was one route" if story.pinned else "One route could be taken"
        sentences = [f"{one}, {_route(story.candidates[0])}."]
    else:
        drawn = f"{', then '.join(routes)}. The order was drawn by weight (draw {story.draw})."
        sentences = [f"{len(routes)} routes could be taken, in this order: {drawn}"]
    if story.spares:
        whose = "It was" if story.spares == 1 else f"The last {story.spares} were"
        sentences.append(f"{whose} not asked for, but allowed as a fallback.")
    if story.joined:
        sentences.append(f"An equal request was under way: this one shared its flight {story.flight}.")
    return sentences


def _left_out(route: "LeftOut") -> str:
    why = _WHY.get(route.reason, route.reason)
    until = f" (until {route.until})" if route.until is not None else ""
    return f"{_route(route)} was left out: {why}{until}."


def _attempted(attempt: "Attempt") -> str:
    begin = f"Attempt {attempt.number}, {_route(attempt)},"
    match attempt.outcome:
        case "succeeded":
            called = f", served as {attempt.served_model}" if attempt.served_model else ""
            usage = attempt.usage
            cost = f"; {usage.input_tokens} tokens in, {usage.output_tokens} out" if usage is not None else ""
            pace = f"the first piece after {attempt.first_chunk_ms} ms, all of it after {attempt.duration_ms} ms"
            return f"{begin} answered: {pace}{called}{cost}."
        case "failed":
            passed_on = f" after {attempt.chunks} pieces had been passed on" if attempt.chunks else ""
            resets = f"; it said that it works again at {attempt.resets_at}" if attempt.resets_at else ""
            phase = f", {attempt.phase}" if attempt.phase else ""
            why = f"{attempt.kind}{phase} (recognised by {attempt.evidence}){resets}"
            return f"{begin} failed after {attempt.duration_ms} ms{passed_on}: {why}."
        case "cancelled":
            return f"{begin} was stopped after {attempt.duration_ms} ms, because nobody waited for it any more."
        case "abandoned":
            return f"{begin} was under way when the gateway died."
    return f"{begin} has been under way since {attempt.started_at}."


def _ended(story: "Story") -> str:
    match story.state:
        case "completed":
            charged = story.usage.total_tokens if story.usage is not None else 0
            cost = f"It was charged {charged} tokens." if charged else "It was charged no tokens."
            return f"The whole answer was there after {story.duration_ms} ms ({story.finish}). {cost}"
        case "failed":
            return f"It failed after {story.duration_ms} ms with {story.code}, for which the {story.blame} is to blame."
        case "cancelled":
            who = _CANCELLED.get(story.cancelled_by or "", "The gateway stopped")
            return f"{who} after {story.duration_ms} ms, before there was a whole answer."
        case "abandoned":
            return f"The gateway died while it was open; the next start closed it at {story.ended_at}."
    return "It is still under way."


def _route(route: "Attempt | LeftOut | object") -> str:
    provider, account, model = (getattr(route, name) for name in ("provider", "account", "model"))
    return f"{provider}{f'/{account}' if account != 'default' else ''} {model}".rstrip()
