"""What the HTTP layer says to the actors: who asks, and for what."""

import msgspec

from llmux.prompts import Prompt


class Principal(msgspec.Struct, frozen=True):
    """Who is asking. `id` is a key's id, or "local" when keys are switched off; `scopes` holds "use" and, or, "admin"."""

    id: str = "local"
    user: str = "local"
    project: str = "local"
    scopes: frozenset[str] = frozenset({"use", "admin"})


class Wish(msgspec.Struct, frozen=True):
    """A prompt and how its asker wants it answered.

    `endpoint`    the route template it came through, such as "/api/smart" (a label: never a path from the wire)
    `provider`    pins the provider ("" = whoever offers the model)
    `model`       as the client wrote it; "", "auto" and "smart" mean: any provider by weight, with fallback
    `use_cache`   an answer that is there already will do, and this one may serve others; False = neither
    `fresh`       an answer that is there already will not do; this one may still serve others
    `cache_ttl_ms`  how long this answer may serve others; None = the configured time
    `timeout_ms`  for the whole request; None = the configured one, which it cannot exceed
    `tries`       attempts on one route; None = as the kind of failure says
    `fallback`    providers that it does not ask for may answer too, each with its default model, when those it asks for cannot
    `idempotency` an HMAC of the key under which it is carried out once, "" = it has none
    """

    prompt: Prompt
    principal: Principal
    endpoint: str
    provider: str = ""
    model: str = ""
    stream: bool = False
    use_cache: bool = True
    fresh: bool = False
    cache_ttl_ms: int | None = None
    timeout_ms: int | None = None
    tries: int | None = None
    fallback: bool = False
    idempotency: str = ""
