"""Keys for users: POST, GET and DELETE /admin/api-keys, for whoever has the ADMIN_KEY (in the header X-Admin-Key).

    POST   {"userId", "projectId"}   {"apiKey", "userId", "projectId", "id"}   the key itself is shown here and nowhere else
    GET                              {"keys": [{"id", "key": "sk-lmx_<id>_…", "userId", "projectId", "label", "createdAt", "revoked"}]}
    DELETE /<id or whole key>        {"success": whether that key was good until now}

A POST with `"recordContent": true` makes a key whose prompts and answers are kept (docs/content.md); then the list says so.

A key is on disk before its answer is sent, and a revoked one opens nothing from the next request on.
"""

from typing import TYPE_CHECKING, Any

import msgspec
from quart import Response

from llmux.actors.key_registry import IssueKey, RevokeKey
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import iso, json_response
from llmux.http.native import error_body

if TYPE_CHECKING:
    from llmux.actors.facts.keys import Key
    from llmux.actors.system import System

KEYS = "/admin/api-keys"


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a key is for. A field that nobody knows is refused: a misspelled limit must not make a key without one."""

    userId: str = ""
    projectId: str = ""
    label: str = ""
    recordContent: bool = False


def register(door: Door, system: "System") -> None:
    """Opens the three routes."""

    async def issue() -> Response:
        wanted = decoded(await body_bytes(), NewKey)
        command = IssueKey(
            user=wanted.userId, project=wanted.projectId, label=wanted.label, record_content=wanted.recordContent
        )
        issued = await system.key_registry.ask(command)
        body = {
            "apiKey": issued.secret_key,
            "userId": wanted.userId,
            "projectId": wanted.projectId,
            "id": issued.id,
        }
        return json_response(body, headers={"cache-control": "no-store"})

    async def listed() -> Response:
        keys = sorted(system.facts.keys.values(), key=lambda key: (key.issued_at, key.id))
        return json_response({"keys": [key_body(key) for key in keys]}, headers={"cache-control": "no-store"})

    async def revoke(key: str) -> Response:
        owner = system.keys.principal_of(key)
        revoked = await system.key_registry.ask(RevokeKey(key_id=owner.id if owner is not None else key))
        return json_response({"success": revoked})

    door.route("POST", KEYS, issue, Caller.ADMIN, error_body)
    door.route("GET", KEYS, listed, Caller.ADMIN, error_body)
    door.route("DELETE", f"{KEYS}/<key>", revoke, Caller.ADMIN, error_body)


def key_body(key: "Key") -> dict[str, Any]:
    """A key as the list shows it, without its secret."""
    return {
        "id": key.id,
        "key": f"sk-lmx_{key.id}_…",
        "userId": key.user,
        "projectId": key.project,
        "label": key.label,
        "createdAt": iso(key.issued_at),
        "revoked": key.revoked_at is not None,
        **({"recordContent": True} if key.record_content else {}),
    }
