"""`llmux doctor`: what is installed, who is logged in, and what to type next."""

import sys
from datetime import UTC, datetime

import click
import trio
from rich.console import Console
from rich.table import Table

from llmux import __version__, config
from llmux.cli.command import EXIT_FAILED, Command, print_json
from llmux.doctor import Finding, Report, examine


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what is installed, in which version, who is logged in, and what to type next."""
    report = trio.run(examine, config.from_environment())
    if as_json:
        print_json(report.plain())
    else:
        _print_report(report)
    sys.exit(0 if report.ready else EXIT_FAILED)


def _print_report(report: Report) -> None:
    console = Console()
    console.print(f"LLMux {__version__}, data in {report.data_dir}", highlight=False, soft_wrap=True)
    console.print("A gateway is running on it." if report.running else "No gateway is running on it.")
    columns = ("provider", "account", "installed", "version", "login", "until", "weight")
    table = Table(*columns, box=None, pad_edge=False)
    for entry in report.providers:
        login = "-" if not entry.installed else "yes" if entry.logged_in else "no"
        signs = ("yes" if entry.installed else "no", entry.version or "-", login, _until(entry))
        table.add_row(entry.provider, entry.account, *signs, str(entry.weight))
    console.print(table)
    for entry in report.providers:
        who = entry.provider if entry.account == "default" else f"{entry.provider} ({entry.account})"
        for sentence in (entry.sentence, *entry.notes):
            if sentence:
                console.print(f"{who}: {sentence}", highlight=False, soft_wrap=True, markup=False)
    if not report.ready:
        console.print(
            "No provider is ready. `llmux demo` shows the gateway without any.", highlight=False, soft_wrap=True
        )


def _until(entry: Finding) -> str:
    """When the stored login ends, in UTC, where that is known."""
    if entry.login_expires_at is None:
        return "-"
    moment = f"{datetime.fromtimestamp(entry.login_expires_at / 1000, UTC):%Y-%m-%d %H:%MZ}"
    return f"{moment}, renewed by itself" if entry.login_renews else moment
