"""Commands as people type them, run in this process on a log of their own."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from llmux import migrations
from llmux.cli import main
from tests.golden.logs import LOGS, unpacked_into


def golden_log(directory: Path, golden: Path = LOGS[0]) -> Path:
    """A data directory that holds a golden log with the present tables; the default is the first one."""
    data = directory / "data"
    data.mkdir(mode=0o700)
    migrations.upgrade(unpacked_into(data, golden))
    return data


def typed(data: Path, *words: str) -> Result:
    """What `llmux WORDS` prints, and its exit status, on the log in `data`."""
    environ = {"HOME": str(data.parent), "LLMUX_DATA_DIR": str(data), "LLMUX_CONFIG": None, "COLUMNS": "100"}
    return CliRunner().invoke(main, words, env=environ, catch_exceptions=False)


def said(data: Path, *words: str) -> str:
    """What the command prints; it must end well."""
    result = typed(data, *words)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def json_of(data: Path, *words: str) -> Any:
    """The JSON that the command prints."""
    return json.loads(said(data, *words))


def refused(data: Path, *words: str) -> str:
    """The sentence with which the command refuses, without a traceback."""
    result = typed(data, *words)
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())
