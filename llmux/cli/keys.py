"""`llmux keys`: makes, lists, limits, rotates and revokes keys, through the running gateway or without one."""

import sys
from typing import Any
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.table import Table

from llmux import config
from llmux.actors.journal import Journal
from llmux.actors.key_registry import KeyRegistry, KeyRing, RevokeKey, RotateKey
from llmux.cli.command import EXIT_FAILED, Command, Group, print_json
from llmux.cli.control import call, carry_out
from llmux.cli.key_options import fields_of, terms, written
from llmux.clock import SystemClock
from llmux.http.admin import KEYS
from llmux.http.bodies import decoded
from llmux.http.key_bodies import KeyChange, NewKey, all_keys, issued_body, key_body

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Group)
def keys() -> None:
    """Make, list, limit, rotate and revoke keys."""


@keys.command(cls=Command)
@click.option("--user", required=True, help="Whom the key is for.")
@click.option("--project", required=True, help="What it is for.")
@click.option("--label", default="", help="A note, to tell keys apart.")
@click.option("--record-content", is_flag=True, help="Keep the text of its prompts and answers (docs/content.md).")
@terms
@_JSON
def create(user: str, project: str, label: str, record_content: bool, as_json: bool, **options: Any) -> None:
    """Make a key, and print it: it is shown this once and kept nowhere."""
    settings, clock = config.from_environment(), SystemClock()
    wanted = {"userId": user, "projectId": project, "label": label, "recordContent": record_content}
    wanted |= fields_of(options, clock.now())

    async def here(journal: Journal) -> Any:
        registry = KeyRegistry(journal, settings, clock)
        issued = await registry.issue(decoded(msgspec.json.encode(wanted), NewKey).command())
        return msgspec.to_builtins(issued_body(issued, journal.facts))

    made = carry_out(settings, ask=lambda: call(settings, "POST", KEYS, wanted), here=here)
    if as_json:
        print_json({**made, "label": label})
        return
    click.echo(made["apiKey"])
    click.echo(f"It is shown only now. Its id is {made['id']}; to revoke it: llmux keys revoke {made['id']}", err=True)


@keys.command("list", cls=Command)
@_JSON
def list_(as_json: bool) -> None:
    """List all keys, without their secrets."""
    settings = config.from_environment()

    async def here(journal: Journal) -> Any:
        return msgspec.to_builtins(all_keys(journal.facts, SystemClock().now()))

    found = carry_out(settings, ask=lambda: call(settings, "GET", KEYS), here=here)["keys"]
    if as_json:
        print_json(found)
        return
    table = Table("id", "user", "project", "label", "made", "state", "until", "limits", box=None, pad_edge=False)
    for key in found:
        of = (key[name] for name in ("id", "userId", "projectId", "label", "createdAt", "state"))
        table.add_row(*of, key["expiresAt"] or "", written(key["limits"]))
    Console(markup=False).print(table if found else "There are no keys. To make one: llmux keys create")


@keys.command(cls=Command)
@click.argument("id")
@click.option(
    "--record-content/--forget-content", default=None, help="Keep the text of its requests from now on, or not."
)
@terms
@_JSON
def limit(id: str, record_content: bool | None, as_json: bool, **options: Any) -> None:
    """Change what the key with this ID may. What is not named stays as it is; "none" takes a limit away."""
    settings, clock = config.from_environment(), SystemClock()
    wanted = fields_of(options, clock.now()) | ({} if record_content is None else {"recordContent": record_content})
    if not wanted:
        raise click.UsageError("Say what to change, such as --requests-per-minute 60 or --expires 30d.")

    async def here(journal: Journal) -> Any:
        change = decoded(msgspec.json.encode(wanted), KeyChange).command(id)
        key = await KeyRegistry(journal, settings, clock).limit(change)
        return msgspec.to_builtins(key_body(key, journal.facts, clock.now()))

    key = carry_out(settings, ask=lambda: call(settings, "PATCH", _path(id), wanted), here=here)
    if as_json:
        print_json(key)
        return
    limits = written(key["limits"])
    click.echo(f"Key {id} has these limits: {limits}." if limits else f"Key {id} has no limits.")
    if key["expiresAt"]:
        click.echo(f"It is good until {key['expiresAt']}.")


@keys.command(cls=Command)
@click.argument("id")
@_JSON
def rotate(id: str, as_json: bool) -> None:
    """Give the key with this ID another secret, and print it, this once. The one before opens nothing any more."""
    settings = config.from_environment()

    async def here(journal: Journal) -> Any:
        issued = await KeyRegistry(journal, settings, SystemClock()).rotate(RotateKey(id))
        return msgspec.to_builtins(issued_body(issued, journal.facts))

    made = carry_out(settings, ask=lambda: call(settings, "POST", f"{_path(id)}/rotate"), here=here)
    if as_json:
        print_json(made)
        return
    click.echo(made["apiKey"])
    click.echo("It is shown only now. The key has its id, its limits and its end as before.", err=True)


@keys.command(cls=Command)
@click.argument("id")
@_JSON
def revoke(id: str, as_json: bool) -> None:
    """Revoke the key with this ID (or this whole key): it opens nothing any more."""
    settings, clock = config.from_environment(), SystemClock()

    async def here(journal: Journal) -> Any:
        owner = KeyRing(journal.facts.keys, settings, clock.now()).key_of(id)
        command = RevokeKey(key_id=owner.id if owner is not None else id)
        return {"success": await KeyRegistry(journal, settings, clock).revoke(command)}

    done = carry_out(settings, ask=lambda: call(settings, "DELETE", _path(id)), here=here)["success"]
    if as_json:
        print_json({"success": done})
    elif done:
        click.echo(f"Key {id} is revoked." if not id.startswith("sk-") else "The key is revoked.")
    if not done:
        click.echo("llmux: There is no good key with this id. To see all of them: llmux keys list", err=True)
        sys.exit(EXIT_FAILED)


def _path(id: str) -> str:
    return f"{KEYS}/{quote(id, safe='')}"
