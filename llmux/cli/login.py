"""`llmux login`: the vendor's own login of one account, in this terminal. LLMux sees no password and touches no token."""

import os
import sys
import tempfile
from pathlib import Path

import click
import trio

from llmux import config
from llmux.cli.command import EXIT_FAILED, Command
from llmux.clock import SystemClock
from llmux.config import Account, Settings
from llmux.failures import ConfigurationWrong
from llmux.providers.adapter import Place, Readiness
from llmux.providers.logins import sign_in
from llmux.providers.process import in_terminal
from llmux.providers.registry import adapter_for


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("provider")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--account", default="", help="Which of its [[providers.NAME.accounts]]; needed where it has several.")
def login(provider: str, arguments: tuple[str, ...], account: str) -> None:
    """Log in with a provider's own program: claude, codex or gemini.

    ARGUMENTS are passed on to it, for example: llmux login codex -- --device-auth
    """
    settings = config.from_environment()
    with tempfile.TemporaryDirectory(prefix="llmux-login-") as scratch:
        place = _place(settings, provider, account, Path(scratch))
        prepared = sign_in(place)
        click.echo(prepared.advice, err=True)
        status = in_terminal([*prepared.argv, *arguments], env=prepared.env, cwd=prepared.cwd)
        readiness = trio.run(_look, place)
    if not readiness.ready:
        click.echo(f"llmux: {provider} is not logged in. {readiness.sentence}", err=True)
        sys.exit(EXIT_FAILED)
    if status != 0:
        click.echo(
            f"llmux: {Path(prepared.argv[0]).name} ended with {status}; the login that was there still is.", err=True
        )
        sys.exit(EXIT_FAILED)
    click.echo(f"{provider} is logged in. A running gateway notices it within a minute.", err=True)


def _place(settings: Settings, provider: str, account: str, scratch: Path) -> Place:
    known = settings.providers.get(provider)
    if known is None:
        raise ConfigurationWrong(f"There is no provider '{provider}'. Providers: {', '.join(settings.providers)}.")
    chosen = _account(provider, known.accounts, account)
    return Place(provider, known, chosen, settings.limits, scratch, dict(os.environ), SystemClock())


def _account(provider: str, accounts: tuple[Account, ...], name: str) -> Account:
    names = ", ".join(account.name for account in accounts)
    if not name and len(accounts) > 1:
        raise ConfigurationWrong(f"{provider} has several accounts; add --account NAME with one of: {names}.")
    for account in accounts:
        if name in ("", account.name):
            return account
    raise ConfigurationWrong(f"{provider} has no account '{name}'. Accounts: {names}.")


async def _look(place: Place) -> Readiness:
    with trio.move_on_after(place.limits.probe_ms_max / 1000):
        return await adapter_for(place).probe()
    return Readiness(False, False, sentence="It did not say in time whether it is logged in.")
