"""The text that is kept of requests, for whoever administrates the gateway. What is kept, and when, is told in docs/content.md.

    GET  /admin/requests/<id>/content   {"request", "key", "recordedAt", "until", "finish", "code", "prompt", "answer", ...}
    POST /admin/forget                  {"request"} or {"key"} or {"before"}: {"forgotten": how many texts it were}

`before` is ms since 1970. A deletion is answered when the text is in no file any more and the log says that it was forgotten.
"""

from typing import TYPE_CHECKING

import msgspec
from quart import Response

from llmux.actors.content import ReadContent
from llmux.actors.forgetting import Forget
from llmux.failures import ClientFailure, printable
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import current, iso, json_response
from llmux.http.native import error_body
from llmux.http.operations import Operation, Parameter
from llmux.prompts import Prompt, ToolCall

if TYPE_CHECKING:
    from llmux.actors.system import System

FORGET = "/admin/forget"


class What(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to forget: exactly one of the three."""

    request: str = ""
    key: str = ""
    before: int | None = None


class Kept(msgspec.Struct, frozen=True, rename="camel"):
    """The text of a request; it is deleted after `until`. `finish` is "" and `code` says why where it did not end well."""

    request: str
    key: str
    recorded_at: str
    until: str
    finish: str
    code: str
    prompt: Prompt
    answer: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]


class Forgotten(msgspec.Struct, frozen=True):
    """How many texts were deleted."""

    forgotten: int


def register(door: Door, system: "System") -> None:
    """Opens both routes."""

    async def show(id: str) -> Response:
        content = await system.content.ask(ReadContent(id))
        if content is None:
            raise ClientFailure(
                f"No text of the request {printable(id, 60)} is kept: it was not recorded, or it is forgotten.",
                status=404,
                code="no_content",
            )
        body = Kept(
            request=content.request,
            key=content.key,
            recorded_at=iso(content.recorded_at),
            until=iso(content.until),
            finish=content.finish,
            code=content.code,
            prompt=content.text.prompt,
            answer=content.text.answer,
            reasoning=content.text.reasoning,
            tool_calls=content.text.tool_calls,
        )
        return json_response(body, headers={"cache-control": "no-store"})

    async def forget() -> Response:
        what = decoded(await body_bytes(), What)
        which = Forget(what.request, what.key, what.before, principal=current().principal.id)
        return json_response(Forgotten(await system.content.forget(which)))

    door.route("GET", "/admin/requests/<id>/content", show, Caller.ADMIN, error_body, SHOW)
    door.route("POST", FORGET, forget, Caller.ADMIN, error_body, FORGETTING)


SHOW = Operation(
    "The kept text of a request",
    tag="Content",
    answer=Kept,
    parameters=(Parameter("id", "path", "The id of a request"),),
    failures=(404,),
)
FORGETTING = Operation("Delete kept texts", tag="Content", body=What, answer=Forgotten, failures=(404, 504))
