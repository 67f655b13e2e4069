"""The private home of one worker: everything that the CLI reads and writes on disk, and its removal.

What holds words of a prompt (system text, history, session records, error reports) exists only while the prompt is answered.
"""

import glob
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from llmux.providers.gemini.program import CREDENTIALS, Login
from llmux.providers.gemini.quota import NOTE_TAKER
from llmux.providers.gemini.settings import DENY_ALL, home_settings, request_settings
from llmux.providers.gemini.translation import NEUTRAL_SYSTEM, Translation

_TOKENS = re.compile(
    rb'"tokens":\{"input":(\d+),"output":(\d+),"cached":(\d+),"thoughts":(\d+),"tool":\d+,"total":\d+\}'
)
_TAIL_BYTES = 8192

_RECORDS = "chat"
"""name of the folder of every request's records: the CLI tells the model its path, which has to be the same for every turn"""
_SAME_FOR_ALL = "/proc/self/cwd/home" if sys.platform == "linux" else ""
"""how every worker may call its own home, so that this path is the same for all of them (Linux): by its working directory"""


class Tokens(msgspec.Struct, frozen=True):
    """The token counts of one answer, as the CLI records them. `output` is without the `thoughts`."""

    input: int
    output: int
    cached: int
    thoughts: int


class Home:
    """A directory that one `gemini --acp` process has for itself."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._data = directory / ".gemini"
        self._work = directory / "work"
        self._tmp = directory / "tmp"
        self._system = directory / "system.md"
        self.start = directory / "start"
        """the working directory of the process: nothing but the way to its home"""
        self.policy = directory / "deny-all.toml"
        self._note_taker = directory / "quota.cjs"
        self._quota = directory / "quota.json"
        self.name = _SAME_FOR_ALL or str(directory)
        """what the process is told where its home is"""

    def prepare(self, login: Login, model_configs: Iterable[str]) -> dict[str, str]:
        """Makes the home anew; returns model configuration -> alias. `model_configs` may be asked for after a session/load."""
        self.remove()
        for folder in (self.directory, self._data, self._work, self._tmp, self.start):
            folder.mkdir(mode=0o700, parents=True)
        (self.start / "home").symlink_to(self.directory.absolute())
        self.start.chmod(0o500)
        aliases = {text: f"m{number}" for number, text in enumerate(model_configs)}
        self._write(self._data / "settings.json", json.dumps(home_settings(login.key, aliases)))
        self._write(self.policy, DENY_ALL)
        self._write(self._system, NEUTRAL_SYSTEM)
        if login.file is not None:
            self._write(self._note_taker, NOTE_TAKER)
            credentials = self._data / CREDENTIALS
            if login.writable:
                credentials.symlink_to(login.file.absolute())  # the CLI renews its token in place, for everybody
            else:
                self._write(credentials, login.file.read_text("utf-8"))
        return aliases

    def environment(self, environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of the process: where its home is, that nobody watches, and what the settings add."""
        return {
            "PATH": environ.get("PATH", ""),
            "HOME": str(self.directory),
            "GEMINI_CLI_HOME": self.name,
            "GEMINI_CLI_NO_RELAUNCH": "true",  # else a parent process stays that ignores SIGTERM
            "GEMINI_SYSTEM_MD": str(self._system),
            "NO_BROWSER": "true",
            "NO_COLOR": "1",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "TMPDIR": str(self._tmp),
            **extra,
            **self._node_options(extra),
        }

    def _node_options(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Ours first, then what the settings ask for. In quotes, node knows only backslash and quote as special."""
        if not self._note_taker.exists():
            return {}
        quoted = str(self._note_taker).replace("\\", "\\\\").replace('"', '\\"')
        return {"NODE_OPTIONS": f'--require="{quoted}" {extra.get("NODE_OPTIONS", "")}'.strip()}

    def forget_model_configs(self, login: Login) -> None:
        """The process has read them; they can hold stop sequences and a schema of a client."""
        self._write(self._data / "settings.json", json.dumps(home_settings(login.key, {})))

    def open(self, name: str, session: str, translation: Translation) -> Path:
        """Lays out one request: the system text, and the settings of a new session or the history of a loaded one.

        Returns the session's working directory. `name` is unique; `session` is the id of the session to load.
        """
        cwd = self._work / name
        cwd.mkdir(mode=0o700)
        self._write(self._system, translation.system)
        records = self._data / "tmp" / _RECORDS
        (records / "chats").mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write(records / ".project_root", str(cwd))  # ties the records to the working directory
        if not translation.history:
            (cwd / ".gemini").mkdir(mode=0o700)
            self._write(cwd / ".gemini" / "settings.json", json.dumps(request_settings(translation.model_config)))
            return cwd
        lines = [_heading(session, cwd), *(_record(number, turn) for number, turn in enumerate(translation.history))]
        file = records / "chats" / f"session-2026-01-01T00-00-{session[:8]}.jsonl"
        self._write(file, "".join(json.dumps(line) + "\n" for line in lines))
        return cwd

    def tokens(self, session: str) -> Tokens | None:
        """The counts of the last answer in the record of `session`, or None when there are none."""
        for file in (self._data / "tmp" / _RECORDS / "chats").glob(f"*-{glob.escape(session[:8])}.jsonl"):
            with file.open("rb") as record:
                size = record.seek(0, 2)
                record.seek(max(0, size - _TAIL_BYTES))
                found = _TOKENS.findall(record.read())
            if found:  # quotes inside texts are escaped, so only a real record matches
                return Tokens(*(int(number) for number in found[-1]))
        return None

    def quota(self) -> bytes:
        """What the CLI has learned of the account's quota since this was asked last, as `quota.windows` reads it; b"" = nothing."""
        try:
            note = self._quota.read_bytes()
            self._quota.unlink()
        except OSError:
            return b""
        return note

    def clean(self) -> None:
        """Removes everything that holds words of a prompt. Raises OSError; a full disk keeps none of them alive."""
        for folder in (self._work, self._tmp, self._data / "tmp", self._data / "history"):
            for entry in folder.iterdir() if folder.is_dir() else ():
                _remove(entry)
        self._write(self._system, NEUTRAL_SYSTEM)

    def remove(self) -> None:
        """Removes the home. What the credentials link to stays."""
        with suppress(OSError):
            self.start.chmod(0o700)  # else its content could not be removed
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write(self, file: Path, text: str) -> None:
        file.write_text(text, "utf-8", newline="\n")


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


_LONG_AGO = "2026-01-01T00:00:00.000Z"  # of this minute it must not be: the CLI would take the file for its own


def _heading(session: str, cwd: Path) -> dict[str, Any]:
    project = hashlib.sha256(str(cwd).encode()).hexdigest()
    return {
        "sessionId": session,
        "projectHash": project,
        "startTime": _LONG_AGO,
        "lastUpdated": _LONG_AGO,
        "kind": "main",
    }


def _record(number: int, turn: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": f"h{number}", "timestamp": _LONG_AGO, **turn}
