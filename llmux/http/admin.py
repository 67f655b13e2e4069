"""Keys for users: POST, GET and DELETE /admin/api-keys, for whoever has the ADMIN_KEY (in the header X-Admin-Key).

    POST   {"userId", "projectId"}   {"apiKey", "userId", "projectId", "id"}   the key itself is shown here and nowhere else
    GET                              {"keys": [{"id", "key": "sk-lmx_<id>_…", "userId", "projectId", "label", "createdAt", "revoked"}]}
    DELETE /<id or whole key>        {"success": whether that key was good until now}

A POST with `"recordContent": true` makes a key whose prompts and answers are kept (docs/content.md); then the list says so.

A key is on disk before its answer is sent, and a revoked one opens nothing from the next request on.
"""

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType
from quart import Response

from llmux.actors.key_registry import IssueKey, RevokeKey
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import iso, json_response
from llmux.http.native import error_body
from llmux.http.operations import Operation, Parameter

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


class Issued(msgspec.Struct, frozen=True):
    """A new key, which is shown here and nowhere else."""

    apiKey: str
    userId: str
    projectId: str
    id: str


class KeyBody(msgspec.Struct, frozen=True):
    """A key as the list shows it, without its secret; `recordContent` is there where it is true."""

    id: str
    key: str
    userId: str
    projectId: str
    label: str
    createdAt: str
    revoked: bool
    recordContent: bool | UnsetType = UNSET


class AllKeys(msgspec.Struct, frozen=True):
    """All keys, the revoked ones too, in the order in which they were made."""

    keys: list[KeyBody]


class Revoked(msgspec.Struct, frozen=True):
    """Whether the key was good until now."""

    success: bool


ISSUE = Operation("Make a key", tag="Admin", body=NewKey, answer=Issued)
LIST = Operation("All keys, without their secrets", tag="Admin", answer=AllKeys)
REVOKE = Operation(
    "Revoke a key", tag="Admin", answer=Revoked, parameters=(Parameter("key", "path", "The key's id, or all of it"),)
)


def register(door: Door, system: "System") -> None:
    """Opens the three routes."""

    async def issue() -> Response:
        wanted = decoded(await body_bytes(), NewKey)
        command = IssueKey(
            user=wanted.userId, project=wanted.projectId, label=wanted.label, record_content=wanted.recordContent
        )
        issued = await system.key_registry.ask(command)
        body = Issued(issued.secret_key, wanted.userId, wanted.projectId, issued.id)
        return json_response(body, headers={"cache-control": "no-store"})

    async def listed() -> Response:
        keys = sorted(system.facts.keys.values(), key=lambda key: (key.issued_at, key.id))
        return json_response(AllKeys([key_body(key) for key in keys]), headers={"cache-control": "no-store"})

    async def revoke(key: str) -> Response:
        owner = system.keys.principal_of(key)
        revoked = await system.key_registry.ask(RevokeKey(key_id=owner.id if owner is not None else key))
        return json_response(Revoked(revoked))

    door.route("POST", KEYS, issue, Caller.ADMIN, error_body, ISSUE)
    door.route("GET", KEYS, listed, Caller.ADMIN, error_body, LIST)
    door.route("DELETE", f"{KEYS}/<key>", revoke, Caller.ADMIN, error_body, REVOKE)


def key_body(key: "Key") -> KeyBody:
    """A key as the list shows it."""
    return KeyBody(
        id=key.id,
        key=f"sk-lmx_{key.id}_…",
        userId=key.user,
        projectId=key.project,
        label=key.label,
        createdAt=iso(key.issued_at),
        revoked=key.revoked_at is not None,
        recordContent=key.record_content or UNSET,
    )
