"""Simon Willison's `llm`, as people use it: a command, with the gateway named in its configuration."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cases import API_KEY, BASE_URL, case, run

home = Path(tempfile.mkdtemp())
models = [
    {"model_id": "hello", "model_name": "say=hello+you", "api_base": f"{BASE_URL}/v1", "api_key_name": "llmux"},
    {"model_id": "echo", "model_name": "echo", "api_base": f"{BASE_URL}/v1", "api_key_name": "llmux"},
    {"model_id": "gone", "model_name": "no-such-model", "api_base": f"{BASE_URL}/v1", "api_key_name": "llmux"},
]
(home / "extra-openai-models.yaml").write_text(json.dumps(models))
(home / "keys.json").write_text(json.dumps({"llmux": API_KEY}))
environment = {**os.environ, "LLM_USER_PATH": str(home), "HOME": str(home)}


def llm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "llm", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@case
def chat() -> Any:
    said = llm("-m", "hello", "--no-stream", "--system", "Be short.", "Say hello")
    return said.stdout.strip() or said.stderr


@case
def stream() -> Any:
    said = llm("-m", "echo", "one two three")
    return said.stdout.strip() or said.stderr


@case
def continued() -> Any:
    llm("-m", "echo", "first words")
    return llm("-c", "second words").stdout.strip()


@case
def unknown_model() -> Any:
    return "no-such-model" in llm("-m", "gone", "hi").stderr


run()
