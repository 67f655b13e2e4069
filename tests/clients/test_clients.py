"""Programs of others, unchanged: each is started once over one gateway, goes through its cases, and is held to what it saw."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.install import NODE, PYTHON
from tests.gateway import GatewayProcess, gateway_process
from tests.npm import node_program

PROGRAMS = Path(__file__).resolve().parent / "programs"
KEY = "sk-4b1f9d07c3e852a6f0b97d3e1c86a25f"
SECONDS_MAX = 100
SETTINGS = """
[providers.claude]
kind = "scripted"
command = ""
default_model = "say=hello+you"
models = ["vectors"]
[providers.spent]
kind = "scripted"
default_model = "fail=quota_exhausted,resets=3600"
weight = 0
[providers.limited]
kind = "scripted"
default_model = "echo"
weight = 0
[providers.gemini]
enabled = false
[providers.codex]
enabled = false
[providers.ollama]
enabled = false
"""

HELLO = {"text": "hello you", "finish": "stop", "tokens": [4, 2]}
COUNTED = {"text": "one two three", "finish": "stop", "tokens": [4, 3]}
CITY = '{"city": "Bern"}'
KEPT = {"text": "hello you", "requests": 2, "known": True, "has_a_key_unasked": False}
CUT = {"text": "one two ", "told": True}
OPENAI = {
    "chat": {**HELLO, "model": "say=hello+you"},
    "request_id": True,
    "stream": {**COUNTED, "others_have_usage": False, "one_id": 1},
    "stream_of_events": {"text": "one two three", "final": "one two three"},
    "cut_by_length": "length",
    "json_schema_by_hand": CITY,
    "image": "what is this",
    "image_by_url": {
        "class": "BadRequestError",
        "status": 400,
        "code": "unsupported_image",
        "has_message": True,
        "has_id": True,
        "requests": 1,
    },
    "models": {"listed": True, "one": "say=hello+you"},
    "unknown_model": {
        "class": "NotFoundError",
        "status": 404,
        "code": "model_not_found",
        "has_message": True,
        "has_id": True,
        "requests": 1,
    },
    "wrong_key": {"class": "AuthenticationError", "status": 401, "code": "invalid_api_key"},
    "bad_parameter": {
        "class": "BadRequestError",
        "status": 400,
        "code": "invalid_type",
        "has_message": True,
        "has_id": True,
        "requests": 1,
    },
    "quota_spent": {
        "class": "RateLimitError",
        "status": 429,
        "code": "insufficient_quota",
        "has_message": True,
        "has_id": True,
        "requests": 1,
    },
    "limited_for_a_moment": {"text": "Say hello", "requests": 2},
    "error_in_a_stream": {"text": "one two ", "class": "APIError", "told": True},
    "embeddings": {"count": 2, "same": True, "length": True},
    "completions": {"text": "say it again", "streamed": "say it again"},
    "responses": {"text": "hello you", "status": "completed", "tokens": [4, 2]},
    "responses_stream": {"text": "one two three", "final": "one two three"},
    "responses_continued": {"text": "second words", "tokens": 6},
    "responses_image": "what is this",
}
ANTHROPIC = {
    "chat": {**HELLO, "finish": "end_turn", "model": "say=hello+you", "type": "message"},
    "stream": {**COUNTED, "finish": "end_turn", "final": "one two three"},
    "error_in_a_stream": CUT,
}
OLLAMA = {
    "chat": {**HELLO, "model": "say=hello+you", "took": True},
    "stream": {**COUNTED, "done": [False, True]},
    "generate": {"text": "hello you", "streamed": "one two three", "done": True},
    "embeddings": {"count": 2, "length": True},
    "models": {"listed": True, "capabilities": True, "running": True},
    "unknown_model": {"status": 404, "told": True},
}
EXPECTED: dict[str, dict[str, Any]] = {
    "openai_python.py": {**OPENAI, "json_schema": "Bern", "responses_parsed": "Bern", "lost_connection": KEPT},
    "openai_node.mjs": OPENAI,
    "ai_sdk.mjs": {
        "chat": HELLO,
        "stream": COUNTED,
        "json_schema": "Bern",
        "image": "what is this",
        "embeddings": True,
        "unknown_model": {"status": 404, "code": "model_not_found", "requests": 1},
        "quota_spent": {"status": 429, "code": "insufficient_quota", "requests": 2},  # it knows no x-should-retry
        "error_in_a_stream": CUT,
    },
    "langchain.py": {
        "chat": HELLO,
        "stream": COUNTED,
        "json_schema": "Bern",
        "image": "what is this",
        "embeddings": True,
        "unknown_model": {"class": "OpenAIModelNotFoundError", "status": 404, "code": "model_not_found"},
    },
    "llm_program.py": {
        "chat": "hello you",
        "stream": "one two three",
        "continued": "second words",
        "unknown_model": True,
    },
    "anthropic_python.py": {
        **ANTHROPIC,
        "request_id": True,
        "raw_stream": [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ],
        "cut_by_length": "max_tokens",
        "image": "what is this",
        "counted": True,
        "models": {"listed": True, "one": "say=hello+you"},
        "unknown_model": {
            "class": "NotFoundError",
            "status": 404,
            "type": "not_found_error",
            "has_message": True,
            "has_id": True,
        },
        "quota_spent": {
            "class": "RateLimitError",
            "status": 429,
            "type": "rate_limit_error",
            "has_message": True,
            "has_id": True,
        },
        "wrong_key": {"class": "AuthenticationError", "status": 401},
    },
    "anthropic_node.mjs": ANTHROPIC,
    "ollama_python.py": {
        **OLLAMA,
        "json_schema": CITY,
        "image": "what is this",
        "thinking": {"thinking": "let me see", "text": "hello you"},
        "error_in_a_stream": CUT,
    },
    "ollama_node.mjs": OLLAMA,
}
"""Program -> case -> what it has to have seen."""

Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    environ = {"API_KEY_REQUIRED": "true", "API_KEY": KEY}
    with gateway_process(tmp_path_factory.mktemp("gateway"), toml=SETTINGS, **environ) as running:
        yield running


@pytest.fixture(scope="module")
def seen(gateway: GatewayProcess) -> Run:
    """What a program saw, case by case; it is run once."""
    known: dict[str, dict[str, Any]] = {}

    def of(program: str) -> dict[str, Any]:
        if program not in known:
            known[program] = _run(program, gateway)
        return known[program]

    return of


def _run(program: str, gateway: GatewayProcess) -> dict[str, Any]:
    path = PROGRAMS / program
    command = [PYTHON, "-W", "ignore", path] if path.suffix == ".py" else [node_program(), NODE / "programs" / program]
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(gateway.home),
        "BASE_URL": f"http://127.0.0.1:{gateway.port}",
        "API_KEY": KEY,
    }
    if path.suffix == ".mjs":  # Node looks for packages beside the file that names them
        (NODE / "programs").mkdir(exist_ok=True)
        for each in PROGRAMS.glob("*.mjs"):
            (NODE / "programs" / each.name).write_bytes(each.read_bytes())
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize(
    ("program", "name"),
    [pytest.param(program, name, id=f"{program}-{name}") for program, cases in EXPECTED.items() for name in cases],
)
def test_a_client_sees_what_its_api_promises(seen: Run, program: str, name: str) -> None:
    found = seen(program)[name]
    assert "failed" not in found, found["failed"]
    assert found["saw"] == EXPECTED[program][name]


@pytest.mark.parametrize("program", EXPECTED)
def test_every_case_of_a_client_is_held_to_something(seen: Run, program: str) -> None:
    assert seen(program).keys() == EXPECTED[program].keys()


def test_every_program_of_the_folder_is_run() -> None:
    found = {path.name for path in PROGRAMS.iterdir() if path.suffix in (".py", ".mjs") and path.stem != "cases"}
    assert found == EXPECTED.keys()
