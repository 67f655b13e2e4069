"""One rig per provider: its real program (or server) over a stand-in of its vendor, put into situations that have names.

A situation is what the vendor does to the next model call. Every rig has "answer", "echo", "hang" (no byte) and "stall" (some
text, then silence), and `fails`: the bad ones, each with the kind of failure that the adapter must make of it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from llmux.config import Account
from llmux.failures import Kind
from llmux.prompts import Prompt, Usage, user
from llmux.providers.adapter import Adapter, Call, Place
from llmux.providers.registry import adapter_for
from tests.providers.codex_login import write_login
from tests.providers.hearing import place_of
from tests.real import clis
from tests.real.gemini_running import PRO, adapter_of, with_key
from tests.upstreams.running import Upstream

QUOTA, LIMITED, OVERLOADED, BROKEN, UNKNOWN = "quota", "rate limited", "overloaded", "server error", "not found"
TOO_LONG, LOGGED_OUT, CUT, EMPTY = "too long", "logged out", "cut", "empty"
KINDS = {
    QUOTA: Kind.QUOTA_EXHAUSTED,
    LIMITED: Kind.RATE_LIMITED,
    OVERLOADED: Kind.OVERLOADED,
    BROKEN: Kind.UNAVAILABLE,
    UNKNOWN: Kind.MODEL_NOT_FOUND,
    TOO_LONG: Kind.CONTEXT_TOO_LONG,
    LOGGED_OUT: Kind.LOGGED_OUT,
    CUT: Kind.GARBLED,
    EMPTY: Kind.GARBLED,
}
"""The bad situations, and what they are unless a rig says otherwise."""


class Rig:
    """A provider in the hands of the suite. `api` is the stand-in of its vendor, None where there is none."""

    name: ClassVar[str]
    standing_in: ClassVar[str] = ""
    """the module of the stand-in"""
    model: ClassVar[str]
    modes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """situation -> what the stand-in is told"""
    fails: ClassVar[Mapping[str, Kind]] = KINDS
    tells_reset: ClassVar[bool] = True
    """whether a spent quota says when it resets"""
    concurrency: ClassVar[int] = 4

    def __init__(self, api: Upstream | None):
        self.api = api

    def put(self, situation: str, text: str = "", pieces: int = 3) -> None:
        """From now on the vendor does this; `text` is what it answers, in about so many `pieces`."""
        assert self.api is not None
        self.api.reset()
        self.api.control(**self.modes.get(situation, {}), **self.saying(situation, text, pieces))

    def saying(self, situation: str, text: str, pieces: int) -> dict[str, Any]:
        """What the stand-in must be told so that it says `text`."""
        return {"text": text} if situation == "answer" else {}

    def call(self, text: str) -> Call:
        return Call(Prompt((user(text),)), self.model, self.model)

    def usage(self, text: str, pieces: int) -> Usage:
        """What the vendor counts for the answer `text` to the prompt `text`."""
        raise NotImplementedError

    def place(self, directory: Path, **settings: Any) -> Place:
        raise NotImplementedError

    def adapter(self, directory: Path) -> Adapter:
        """A new adapter with everything in its place."""
        return adapter_for(self.place(directory))

    def absent(self, directory: Path) -> Adapter:
        """An adapter whose program (or server) is not there."""
        return adapter_for(self.place(directory, command=str(directory / "nothing")))

    def calls(self) -> list[dict[str, Any]]:
        """The model calls that the vendor saw since it was put into its situation."""
        return [] if self.api is None else [seen for seen in self.api.log() if self.is_model_call(seen["path"])]

    def is_model_call(self, path: str) -> bool:
        raise NotImplementedError


class Scripted(Rig):
    """The provider that needs no vendor: the situation is the model's name."""

    name, model = "scripted", "echo"
    scripts: ClassVar[Mapping[str, str]] = {
        **{situation: f"fail={kind}" for situation, kind in KINDS.items()},
        QUOTA: "fail=quota_exhausted,resets=3600,used=100",
        CUT: "echo,fail=garbled,after=1",
        EMPTY: "empty",
        "hang": "hang",
        "stall": "echo,hang,after=1",
    }

    def put(self, situation: str, text: str = "", pieces: int = 3) -> None:
        self.script = self.scripts.get(situation, "echo")

    def call(self, text: str) -> Call:
        return Call(Prompt((user(text),)), self.script, self.script)

    def usage(self, text: str, pieces: int) -> Usage:
        return Usage(input_tokens=len(text.split()), output_tokens=len(text.split()))

    def place(self, directory: Path, **settings: Any) -> Place:
        return place_of("scripted", directory, **settings)


class Ollama(Rig):
    name, standing_in, model = "ollama", "ollama", "tiny"
    modes: ClassVar = {
        QUOTA: {"mode": "refuse", "status": 429, "error": "you have reached your weekly usage limit"},
        LIMITED: {"mode": "refuse", "status": 429, "error": "too many requests"},
        OVERLOADED: {"mode": "refuse", "status": 503, "error": "server busy, please try again."},
        BROKEN: {"mode": "refuse", "status": 500, "error": "llama runner process has terminated: exit status 2"},
        UNKNOWN: {"mode": "refuse", "status": 404, "error": 'model "tiny" not found, try pulling it first'},
        TOO_LONG: {"mode": "refuse", "status": 400, "error": "the input length exceeds the context length"},
        LOGGED_OUT: {"mode": "refuse", "status": 401, "error": "unauthorized"},
        CUT: {"mode": "cut"},
        EMPTY: {"text": ""},
        "echo": {"mode": "echo"},
        "hang": {"mode": "hang"},
        "stall": {"mode": "stall"},
    }
    fails: ClassVar = {**KINDS, LOGGED_OUT: Kind.UNAVAILABLE}  # only its cloud models know a login; the others work on
    tells_reset = False

    def saying(self, situation: str, text: str, pieces: int) -> dict[str, Any]:
        return {"text": text, "chunks": pieces} if situation == "answer" else {}

    def usage(self, text: str, pieces: int) -> Usage:
        return Usage(input_tokens=7, output_tokens=pieces)

    def place(self, directory: Path, **settings: Any) -> Place:
        assert self.api is not None
        return place_of("ollama", directory, url=self.api.url, **settings)

    def absent(self, directory: Path) -> Adapter:
        return adapter_for(place_of("ollama", directory, url="http://127.0.0.1:9"))  # a port that nobody may listen on

    def is_model_call(self, path: str) -> bool:
        return path == "/api/chat"


class Claude(Rig):
    name, standing_in, model = "claude", "anthropic", "claude-sonnet-4"
    modes: ClassVar = {
        QUOTA: {"mode": "429_plan"},
        LIMITED: {"mode": "429"},
        OVERLOADED: {"mode": "529"},
        BROKEN: {"mode": "500"},
        UNKNOWN: {"mode": "404"},
        TOO_LONG: {"mode": "too_long"},
        LOGGED_OUT: {"mode": "401"},
        CUT: {"mode": "cut"},
        EMPTY: {"mode": "empty"},
        "echo": {"mode": "echo"},
        "hang": {"mode": "hang"},
        "stall": {"mode": "stall"},
    }

    def call(self, text: str) -> Call:
        return Call(Prompt((user(text),)), self.model, "sonnet")

    def usage(self, text: str, pieces: int) -> Usage:
        return Usage(input_tokens=11, output_tokens=7)

    def place(self, directory: Path, **settings: Any) -> Place:
        assert self.api is not None
        values = {"command": str(clis.claude()), "env": {"ANTHROPIC_BASE_URL": self.api.url}, **settings}
        return place_of("claude", directory, environ={"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-made-up"}, **values)

    def is_model_call(self, path: str) -> bool:
        return path.startswith("/v1/messages")


class Codex(Rig):
    name, standing_in, model = "codex", "openai", "gpt-5.2-codex"
    modes: ClassVar = {
        QUOTA: {
            "status": 429,
            "body": {"error": {"type": "usage_limit_reached", "message": "x"}},
            "failed_used": [100, 3],
        },
        LIMITED: {"status": 429, "headers": {"retry-after": "1"}},
        OVERLOADED: {"status": 503, "body": {"error": {"code": "server_is_overloaded", "message": "x"}}},
        BROKEN: {"status": 500},
        UNKNOWN: {"status": 404, "body": {"error": {"code": "model_not_found", "message": "x"}}},
        TOO_LONG: {"error": {"code": "context_length_exceeded", "message": "x"}},
        LOGGED_OUT: {"status": 403},
        CUT: {"end": "cut"},
        EMPTY: {"deltas": [""]},
        "echo": {"echo": True},
        "hang": {"silent_ms": 60_000},
        "stall": {"end": "stall"},
    }

    def usage(self, text: str, pieces: int) -> Usage:
        return Usage(input_tokens=40, cached_input_tokens=13, output_tokens=11, reasoning_tokens=2)

    def place(self, directory: Path, **settings: Any) -> Place:
        assert self.api is not None
        write_login(directory / "login")
        values = {"command": str(clis.codex()), "base_url": f"{self.api.url}/backend-api/codex", **settings}
        return place_of("codex", directory, account=Account(config_dir=str(directory / "login")), **values)

    def is_model_call(self, path: str) -> bool:
        return path.endswith("/responses")


class Gemini(Rig):
    """Its flash models are tried again in silence by the CLI itself, so the suite asks the other one."""

    name, standing_in, model = "gemini", "gemini", PRO
    concurrency = 2
    modes: ClassVar = {
        QUOTA: {"mode": "spent"},
        LIMITED: {"mode": "limited-minute"},
        OVERLOADED: {"mode": "overloaded"},
        BROKEN: {"mode": "broken"},
        UNKNOWN: {"mode": "no-model"},
        TOO_LONG: {"mode": "too-long"},
        LOGGED_OUT: {"mode": "unauthorized"},
        CUT: {"mode": "cut", "text": "some words that are cut", "pieces": 3},
        EMPTY: {"mode": "empty"},
        "hang": {"mode": "hang"},
        "stall": {"text": "some words", "pieces": 2, "pause_ms": 60_000},
    }

    def saying(self, situation: str, text: str, pieces: int) -> dict[str, Any]:
        return {"text": text, "pieces": pieces} if situation == "answer" else {}

    def usage(self, text: str, pieces: int) -> Usage:
        return Usage(input_tokens=42, output_tokens=7)

    def adapter(self, directory: Path) -> Adapter:
        return self._adapter(directory)

    def absent(self, directory: Path) -> Adapter:
        return self._adapter(directory, command=str(directory / "nothing"))

    def _adapter(self, directory: Path, **settings: Any) -> Adapter:
        assert self.api is not None
        return adapter_of(directory, with_key(self.api), models=(PRO,), concurrency=2, warm=1, **settings)

    def is_model_call(self, path: str) -> bool:
        return "streamGenerateContent" in path


RIGS: tuple[type[Rig], ...] = (Scripted, Ollama, Claude, Codex, Gemini)
