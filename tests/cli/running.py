"""Commands of llmux, run in this process with an environment of their own."""

import os
from pathlib import Path

from click.testing import CliRunner, Result

from llmux.cli import main

SCRIPTED = """
[providers.claude]
kind = "scripted"
command = ""
default_model = "say=hello+you"
[providers.gemini]
enabled = false
[providers.codex]
enabled = false
[providers.ollama]
enabled = false
"""


class Here:
    """A home of its own; the same data as that of a gateway process over `home`."""

    def __init__(self, home: Path):
        home.mkdir(parents=True, exist_ok=True)
        (home / "llmux.toml").write_text(SCRIPTED)
        self.data_dir = home / "data"
        own = {name: None for name in os.environ if name.startswith("LLMUX_")}
        self.environ = {
            **own,
            "HOME": str(home),
            "LLMUX_CONFIG": str(home / "llmux.toml"),
            "LLMUX_DATA_DIR": str(self.data_dir),
        }

    def llmux(self, *args: str) -> Result:
        """Runs a command; what it prints is in `stdout` and `stderr`."""
        result = CliRunner().invoke(main, args, env=self.environ)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result
