"""`llmux keys`: makes, lists and revokes keys, through the running gateway or without one."""

import sys
from typing import Any
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.table import Table

from llmux import config
from llmux.actors.journal import Journal
from llmux.actors.key_registry import IssuedKey, IssueKey, KeyRegistry, RevokeKey
from llmux.cli.command import EXIT_FAILED, Command, Group, print_json
from llmux.cli.control import call, carry_out
from llmux.clock import SystemClock
from llmux.http.admin import KEYS, key_body


@click.group(cls=Group)
def keys() -> None:
    """Make, list and revoke keys."""


@keys.command(cls=Command)
@click.option("--user", required=True, help="Whom the key is for.")
@click.option("--project", required=True, help="What it is for.")
@click.option("--label", default="", help="A note, to tell keys apart.")
@click.option("--record-content", is_flag=True, help="Keep the text of its prompts and answers (docs/content.md).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(user: str, project: str, label: str, record_content: bool, as_json: bool) -> None:
    """Make a key, and print it: it is shown this once and kept nowhere."""
    settings = config.from_environment()

    async def here(journal: Journal) -> dict[str, Any]:
        registry = KeyRegistry(journal, settings, SystemClock())
        command = IssueKey(user=user, project=project, label=label, record_content=record_content)
        issued = await registry.handle(command)
        assert isinstance(issued, IssuedKey)
        return {"apiKey": issued.secret_key, "id": issued.id}

    wanted = {"userId": user, "projectId": project, "label": label, "recordContent": record_content}
    made = carry_out(settings, ask=lambda: call(settings, "POST", KEYS, wanted), here=here)
    if as_json:
        print_json({"apiKey": made["apiKey"], "id": made["id"], "userId": user, "projectId": project, "label": label})
        return
    click.echo(made["apiKey"])
    click.echo(f"It is shown only now. Its id is {made['id']}; to revoke it: llmux keys revoke {made['id']}", err=True)


@keys.command("list", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List all keys, without their secrets."""
    settings = config.from_environment()

    async def here(journal: Journal) -> dict[str, Any]:
        known = sorted(journal.facts.keys.values(), key=lambda key: (key.issued_at, key.id))
        return {"keys": [msgspec.to_builtins(key_body(key)) for key in known]}

    found = carry_out(settings, ask=lambda: call(settings, "GET", KEYS), here=here)["keys"]
    if as_json:
        print_json(found)
        return
    table = Table("id", "user", "project", "label", "made", "state", box=None, pad_edge=False)
    for key in found:
        state = "revoked" if key["revoked"] else "good"
        table.add_row(key["id"], key["userId"], key["projectId"], key["label"], key["createdAt"], state)
    Console(markup=False).print(table if found else "There are no keys. To make one: llmux keys create")


@keys.command(cls=Command)
@click.argument("id")
def revoke(id: str) -> None:
    """Revoke the key with this ID: it opens nothing any more."""
    settings = config.from_environment()

    async def here(journal: Journal) -> dict[str, Any]:
        return {"success": await KeyRegistry(journal, settings, SystemClock()).handle(RevokeKey(key_id=id))}

    path = f"{KEYS}/{quote(id, safe='')}"
    if not carry_out(settings, ask=lambda: call(settings, "DELETE", path), here=here)["success"]:
        click.echo("llmux: There is no good key with this id. To see all of them: llmux keys list", err=True)
        sys.exit(EXIT_FAILED)
    click.echo(f"Key {id} is revoked.")
