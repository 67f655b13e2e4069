"""The models, as Ollama's clients look at them: GET /api/tags (with the fields that LLMux always had), POST /api/show, GET /api/ps.

A model of a real Ollama is described as that server describes it. The others are no files: their `size` is 0, their digest is
that of their name, and they were modified when this gateway started.
"""

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from quart import Response

from llmux.config.settings import ABILITIES, CONTEXT_TOKENS
from llmux.http.access import Caller, Routes, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import current, iso, json_response
from llmux.http.ollama.errors import error_body
from llmux.http.ollama.names import model_named
from llmux.http.operations import Operation

if TYPE_CHECKING:
    from llmux.actors.system import ModelEntry, System

SERVED = frozenset({"completion", "vision", "thinking", "embedding"})
"""what a model may be able to do and the gateway lets it"""


class Details(msgspec.Struct, frozen=True):
    """What kind of model it is; "" where nobody says."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Tag(msgspec.Struct, frozen=True):
    """A model. `alias` is another name it can be asked for by; `size` is in bytes."""

    name: str
    provider: str
    alias: str
    description: str
    default: bool
    supportsStream: bool
    weight: int
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(msgspec.Struct, frozen=True):
    """All models, the configured ones first."""

    models: list[Tag]


class ShowBody(msgspec.Struct, frozen=True):
    """Which model; older clients write `name`."""

    model: str | None = None
    name: str | None = None


class Shown(msgspec.Struct, frozen=True):
    """A model. `capabilities` is what it can do here: completion, vision, thinking, embedding."""

    modelfile: str
    parameters: str
    template: str
    license: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    provider: str


class Running(msgspec.Struct, frozen=True):
    """A model that is answering now; `expires_at` is when its answers end at the latest."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    provider: str


class AllRunning(msgspec.Struct, frozen=True):
    """The models that are answering now."""

    models: list[Running]


LIST = Operation("Every model that can be asked for by name", tag="Models", answer=Tags)
SHOW = Operation("One model", tag="Ollama", body=ShowBody, answer=Shown, failures=(404,))
PS = Operation("The models that are answering now", tag="Ollama", answer=AllRunning)


def register(door: Routes, system: "System") -> None:
    """Opens the three routes."""

    async def tags() -> Response:
        return json_response(Tags([_tag(system, entry) for entry in system.models(current().principal)]))

    async def show() -> Response:
        body = decoded(await body_bytes(), ShowBody)
        return json_response(_shown(system, system.destination(model_named(body.model or body.name, system))))

    async def running() -> Response:
        ends = iso(system.clock.now() + system.settings.request_timeout_ms)
        return json_response(AllRunning([_running(system, entry, ends) for entry in system.running()]))

    door.route("GET", "/api/tags", tags, Caller.PUBLIC, error_body, LIST)
    door.route("POST", "/api/show", show, Caller.USER, error_body, SHOW)
    door.route("GET", "/api/ps", running, Caller.USER, error_body, PS)


def _tag(system: "System", entry: "ModelEntry") -> Tag:
    full_name = f"{entry.provider}/{entry.id}"
    aliases = (alias for alias, model in system.settings.aliases.items() if model in (entry.id, full_name))
    return Tag(
        name=entry.id,
        provider=entry.provider,
        alias=next(aliases, full_name),
        description=f"{'The default model' if entry.default else 'A model'} of {entry.provider}",
        default=entry.default,
        supportsStream=True,
        weight=entry.weight,
        model=entry.id,
        modified_at=_modified_at(system, entry),
        size=_size(entry),
        digest=_digest(entry),
        details=_details(system, entry),
    )


def _shown(system: "System", entry: "ModelEntry") -> Shown:
    details = _details(system, entry)
    said = entry.listed.capabilities if entry.listed is not None else None
    kind = system.settings.providers[entry.provider].kind
    able = ABILITIES.get(kind, ()) if said is None else said
    return Shown(
        modelfile=f"# '{entry.id}' is served by {entry.provider} through LLMux.",
        parameters="",
        template="",
        license="",
        details=details,
        model_info=_info(entry.id, details.family, CONTEXT_TOKENS.get(kind, 0)),
        capabilities=[name for name in able if name in SERVED],
        modified_at=_modified_at(system, entry),
        provider=entry.provider,
    )


def _info(name: str, architecture: str, context_tokens: int) -> dict[str, Any]:
    """What `ollama show` cannot do without: up to version 0.9 it ends with a panic where one of the numbers is missing."""
    return {
        "general.architecture": architecture,
        "general.basename": name,
        "general.parameter_count": 0,
        f"{architecture}.context_length": context_tokens,
        f"{architecture}.embedding_length": 0,
    }


def _running(system: "System", entry: "ModelEntry", ends: str) -> Running:
    details = _details(system, entry)
    return Running(entry.id, entry.id, _size(entry), _digest(entry), details, ends, 0, entry.provider)


def _details(system: "System", entry: "ModelEntry") -> Details:
    said = entry.listed
    kind = system.settings.providers[entry.provider].kind
    if said is None:
        return Details("", "", kind, [kind], "", "")
    return Details(
        parent_model="",
        format=said.format,
        family=said.family,
        families=list(said.families),
        parameter_size=said.parameter_size,
        quantization_level=said.quantization_level,
    )


def _size(entry: "ModelEntry") -> int:
    return entry.listed.size_bytes if entry.listed is not None else 0


def _digest(entry: "ModelEntry") -> str:
    """As long as Ollama's in any case: its own client cuts twelve characters off without looking."""
    said = entry.listed.digest if entry.listed is not None else ""
    return said if len(said) >= 12 else hashlib.sha256(f"{entry.provider}/{entry.id}".encode()).hexdigest()


def _modified_at(system: "System", entry: "ModelEntry") -> str:
    said = entry.listed.modified_at if entry.listed is not None else ""
    return said or iso(system.facts.gateway.started_at or 0)
