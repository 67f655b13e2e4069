"""The command line. One module per group of commands; this one puts them together."""

import click

from llmux import __version__, logs
from llmux.cli.archiving import archive
from llmux.cli.command import Group
from llmux.cli.examining import doctor
from llmux.cli.forgetting import forget
from llmux.cli.keeping import backup, rekey, restore
from llmux.cli.keys import keys
from llmux.cli.login import login
from llmux.cli.reading import events, request
from llmux.cli.replaying import replay
from llmux.cli.serving import demo, serve
from llmux.cli.simulating import simulate
from llmux.cli.skipping import skip
from llmux.cli.spending import usage
from llmux.cli.verifying import verify, witness


@click.group(cls=Group)
@click.version_option(__version__, prog_name="llmux")
def main() -> None:
    """One HTTP API over your logged-in Claude Code, Gemini CLI and Codex, and a local Ollama."""
    logs.configure_command()


for _command in (
    serve, demo, doctor, login, keys, events, request, usage, replay, simulate, verify, witness, rekey, backup, restore, archive,
    forget,
):  # fmt: skip
    main.add_command(_command)
events.add_command(skip)
