"""Archiving, for whoever administrates the gateway. What it does is told in docs/log.md.

    POST /admin/archive   {"before": "30d"}: {"first", "through", "events", "files", "archiveBytes", "bytesBefore", "bytesAfter", …}

`before` is an age (30d, 12h), a time, or a position; what came before it moves into compressed files. The answer comes when
that is done, which takes some seconds for 100,000 events; whoever does not wait for it does not stop it.
"""

from typing import TYPE_CHECKING

import msgspec
from quart import Response

from llmux.actors.archiver import Archived, ArchiveLog
from llmux.failures import ClientFailure
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import current, json_response
from llmux.http.native import error_body
from llmux.http.operations import Operation

if TYPE_CHECKING:
    from llmux.actors.system import System

ARCHIVE = "/admin/archive"


class What(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far."""

    before: str | int = ""


def register(door: Door, system: "System") -> None:
    """Opens the route."""

    async def archive() -> Response:
        what = decoded(await body_bytes(), What)
        if what.before == "":
            raise ClientFailure("before: say how far, such as 30d.", param="before")
        command = ArchiveLog(str(what.before), principal=current().principal.id)
        return json_response(await system.archiver.ask(command))

    door.route("POST", ARCHIVE, archive, Caller.ADMIN, error_body, OPERATION)


OPERATION = Operation("Move old events into archives", tag="Log", body=What, answer=Archived, failures=(409, 504, 507))
