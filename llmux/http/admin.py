"""Keys for users: /admin/api-keys, for whoever has the ADMIN_KEY (in the header X-Admin-Key).

    POST                   {"userId", "projectId", "label", "limits", "expiresAt"}   the key itself is shown here and nowhere else
    GET                    {"keys": […]}    without secrets, and with what each has used of its limits
    PATCH  /<id>           {"limits", "expiresAt", "recordContent"}   what is not there stays as it is, null is no limit
    POST   /<id>/rotate    as for a new key: the same key with another secret
    DELETE /<id or whole key>    {"success": whether that key was good until now}

A POST with `"recordContent": true` makes a key whose prompts and answers are kept (docs/content.md); then the list says so.

What is answered is on disk, and counts from the next request on; what that means for requests under way, the setting
KEY_REVOKE_STREAMS says (llmux/actors/revocation.py).
"""

from typing import TYPE_CHECKING

from quart import Response

from llmux.actors.key_registry import RevokeKey, RotateKey
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import json_response
from llmux.http.key_bodies import (
    AllKeys,
    Issued,
    KeyBody,
    KeyChange,
    NewKey,
    Nothing,
    Revoked,
    all_keys,
    issued_body,
    key_body,
)
from llmux.http.native import error_body
from llmux.http.operations import Operation, Parameter

if TYPE_CHECKING:
    from llmux.actors.system import System

KEYS = "/admin/api-keys"
_SECRET = {"cache-control": "no-store"}
_ID = Parameter("id", "path", "The key's id")

ISSUE = Operation("Make a key", tag="Admin", body=NewKey, answer=Issued)
LIST = Operation("All keys, without their secrets", tag="Admin", answer=AllKeys)
CHANGE = Operation(
    "Change a key's limits, its end, or whether its texts are kept",
    tag="Admin",
    body=KeyChange,
    answer=KeyBody,
    parameters=(_ID,),
    failures=(404, 409),
)
ROTATE = Operation(
    "Give a key another secret", tag="Admin", body=Nothing, answer=Issued, parameters=(_ID,), failures=(404, 409)
)
REVOKE = Operation(
    "Revoke a key", tag="Admin", answer=Revoked, parameters=(Parameter("id", "path", "The key's id, or all of it"),)
)


def register(door: Door, system: "System") -> None:
    """Opens the five routes."""

    async def issue() -> Response:
        wanted = decoded(await body_bytes(), NewKey)
        issued = await system.key_registry.ask(wanted.command())
        return json_response(issued_body(issued, system.facts), headers=_SECRET)

    async def listed() -> Response:
        return json_response(all_keys(system.facts, system.clock.now()), headers=_SECRET)

    async def change(id: str) -> Response:
        wanted = decoded(await body_bytes(), KeyChange)
        key = await system.key_registry.ask(wanted.command(id))
        return json_response(key_body(key, system.facts, system.clock.now()), headers=_SECRET)

    async def rotate(id: str) -> Response:
        decoded(await body_bytes(), Nothing)
        issued = await system.key_registry.ask(RotateKey(id))
        return json_response(issued_body(issued, system.facts), headers=_SECRET)

    async def revoke(id: str) -> Response:
        decoded(await body_bytes(), Nothing)
        owner = system.keys.key_of(id)
        revoked = await system.key_registry.ask(RevokeKey(key_id=owner.id if owner is not None else id))
        return json_response(Revoked(revoked))

    door.route("POST", KEYS, issue, Caller.ADMIN, error_body, ISSUE)
    door.route("GET", KEYS, listed, Caller.ADMIN, error_body, LIST)
    door.route("PATCH", f"{KEYS}/<id>", change, Caller.ADMIN, error_body, CHANGE)
    door.route("POST", f"{KEYS}/<id>/rotate", rotate, Caller.ADMIN, error_body, ROTATE)
    door.route("DELETE", f"{KEYS}/<id>", revoke, Caller.ADMIN, error_body, REVOKE)
