"""Every endpoint with every provider: the real programs behind a real gateway process answer with their upstream's own text."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import GatewayProcess, Reply, gateway_process
from tests.providers.codex_login import write_login as write_codex_login
from tests.providers.hearing import descendants
from tests.real.clis import claude, codex, gemini, node
from tests.real.gemini_running import with_google
from tests.real.gemini_running import write_login as write_gemini_login
from tests.upstreams.running import Upstream, upstream

MODELS = {
    "claude": "claude-opus-4-5",
    "codex": "gpt-5.2-codex",
    "gemini": "gemini-3-flash-preview",
    "ollama": "tiny:latest",
}
PROVIDERS = list(MODELS)
PROMPT = "Say something about the sea."


class House:
    """The four upstreams, and the gateway in front of them."""

    def __init__(self, upstreams: dict[str, Upstream], gateway: GatewayProcess):
        self.upstreams, self.gateway = upstreams, gateway

    def expect(self, provider: str) -> str:
        """Makes the provider's upstream answer a text of its own, and returns that text."""
        if provider == "ollama":
            return self.babble()
        text = f"Grüße vom Meer, says {provider} at {time.monotonic_ns()} ✓"
        self.upstreams[provider].reset()
        self.upstreams[provider].control(text=text)
        return text

    def babble(self) -> str:
        """What the real Ollama answers to PROMPT when nothing is left to chance."""
        body = {
            "model": "tiny:latest",
            "messages": [{"role": "user", "content": PROMPT}],
            "options": {"temperature": 0, "num_predict": 12},
            "stream": False,
        }
        url = self.upstreams["ollama"].url + "/api/chat"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=60) as answer:
            return json.load(answer)["message"]["content"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("house")
    write_codex_login(home / "codex-login")
    write_gemini_login(home / ".gemini")
    certificates = home / "certificates"
    certificates.mkdir()
    with (
        upstream("anthropic") as anthropic,
        upstream("openai") as openai,
        upstream("gemini", "--certificates", str(certificates)) as google,
        upstream("real_ollama") as ollama,
    ):
        toml = _toml(home, anthropic, openai, google, ollama)
        path = f"{node().parent}{os.pathsep}{os.environ['PATH']}"
        environ = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-made-up", "PATH": path}
        with gateway_process(home, toml=toml, **environ) as gateway:
            yield House({"claude": anthropic, "codex": openai, "gemini": google, "ollama": ollama}, gateway)


def _toml(home: Path, anthropic: Upstream, openai: Upstream, google: Upstream, ollama: Upstream) -> str:
    google_env = ", ".join(f'{name} = "{value}"' for name, value in with_google(google).items())
    return f"""
[providers.claude]
command = "{claude()}"
env = {{ ANTHROPIC_BASE_URL = "{anthropic.url}" }}

[providers.codex]
command = "{codex()}"
base_url = "{openai.url}/backend-api/codex"
[[providers.codex.accounts]]
config_dir = "{home}/codex-login"

[providers.gemini]
command = "{gemini()[-1]}"
env = {{ {google_env} }}

[providers.ollama]
url = "{ollama.url}"
default_model = "tiny:latest"
models = ["tiny:latest"]
"""


def test_all_four_are_ready(house: House):
    health = house.gateway.call("GET", "/health")
    assert health.status == 200, health
    assert {
        name: (each["available"], each["sentence"]) for name, each in health.json["providers"].items()
    } == dict.fromkeys(PROVIDERS, (True, ""))


def native(house: House, path: str, provider: str, stream: bool) -> Reply:
    body: dict[str, Any] = {"prompt": PROMPT, "stream": stream, "options": {"useCache": False}}
    if provider == "ollama":
        body["options"] |= {"temperature": 0, "maxTokens": 12}
    if path == "/api/smart":
        body["options"]["model"] = MODELS[provider]
    if path == "/api/generate":
        body["provider"] = provider
    return house.gateway.call("POST", path, body)


@pytest.mark.parametrize("path", ["/api/smart", "/api/generate", "direct"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_native(house: House, provider: str, path: str):
    text = house.expect(provider)
    reply = native(house, f"/{provider}" if path == "direct" else path, provider, stream=False)
    assert reply.status == 200, reply
    assert reply.json["response"] == text
    assert reply.json["provider"] == provider
    assert reply.json["done"] is True
    assert reply.json["usage"]["input_tokens"] > 0
    assert reply.json["usage"]["output_tokens"] > 0
    assert reply.headers["x-request-id"] == reply.json["request_id"]


@pytest.mark.parametrize("path", ["/api/smart", "/api/generate", "direct"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_native_stream(house: House, provider: str, path: str):
    text = house.expect(provider)
    reply = native(house, f"/{provider}" if path == "direct" else path, provider, stream=True)
    assert reply.status == 200, reply
    frames = reply.frames
    assert frames[-1] == "[DONE]"
    assert "".join(frame.get("content", "") for frame in frames[:-1]) == text
    assert frames[-2]["done"] is True
    assert "error" not in frames[-2]
    if path == "/api/smart":
        assert frames[0] == {"provider": provider, "started": True}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_openai(house: House, provider: str):
    text = house.expect(provider)
    reply = house.gateway.call("POST", "/v1/chat/completions", chat(provider, stream=False))
    assert reply.status == 200, reply
    (choice,) = reply.json["choices"]
    assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
    assert choice["finish_reason"] == ("length" if provider == "ollama" else "stop")
    usage = reply.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] > 0
    assert reply.headers["x-llmux-provider"] == provider


@pytest.mark.parametrize("provider", PROVIDERS)
def test_openai_stream(house: House, provider: str):
    text = house.expect(provider)
    reply = house.gateway.call("POST", "/v1/chat/completions", chat(provider, stream=True))
    assert reply.status == 200, reply
    frames = reply.frames
    assert frames[-1] == "[DONE]"
    assert frames[-2]["usage"]["completion_tokens"] > 0
    deltas = [choice["delta"] for frame in frames[:-1] for choice in frame["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas) == text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_ollama_stream(house: House, provider: str):
    text = house.expect(provider)
    asked = chat(provider, stream=True)
    body = {"model": asked["model"], "messages": asked["messages"]}
    if provider == "ollama":
        body["options"] = {"temperature": 0, "num_predict": 12}
    reply = house.gateway.call("POST", "/api/chat", body)
    assert reply.status == 200, reply
    *pieces, last = [json.loads(line) for line in reply.body.splitlines()]
    assert "".join(each["message"]["content"] for each in pieces) == text
    assert (last["done"], last["done_reason"]) == (True, "length" if provider == "ollama" else "stop")
    assert last["prompt_eval_count"] > 0
    assert last["eval_count"] > 0
    assert last["provider"] == provider


def test_vectors_and_descriptions_are_those_of_the_real_ollama(house: House):
    def own(path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{house.upstreams['ollama'].url}{path}", data, timeout=60) as answer:
            return json.load(answer)

    asked = {"model": "tiny:latest", "input": ["the sea", "a"]}
    ours, theirs = house.gateway.call("POST", "/api/embed", asked).json, own("/api/embed", asked)
    for mine, yours in zip(ours["embeddings"], theirs["embeddings"], strict=True):
        assert mine == pytest.approx(yours, abs=0.01)
    assert ours["prompt_eval_count"] == theirs["prompt_eval_count"]
    (listed,) = own("/api/tags")["models"]
    (tag,) = [each for each in house.gateway.call("GET", "/api/tags").json["models"] if each["name"] == "tiny:latest"]
    for field in ("model", "modified_at", "size", "digest"):
        assert tag[field] == listed[field]
    assert tag["details"] == listed["details"] | {"parent_model": ""}
    refused = house.gateway.call("POST", "/api/embed", {"model": MODELS["claude"], "input": "a"})
    assert (refused.status, refused.json["excluded"][0]["reason"]) == (400, "cannot_embed")


def chat(provider: str, *, stream: bool) -> dict[str, Any]:
    """A chat body of OpenAI's. Only Ollama is asked the same twice: its answer is the same then, and the others' are not."""
    prompt = PROMPT if provider == "ollama" else f"{PROMPT} ({time.monotonic_ns()})"
    body: dict[str, Any] = {
        "model": MODELS[provider],
        "messages": [{"role": "user", "content": prompt}],
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    if provider == "ollama":
        body |= {"temperature": 0, "max_tokens": 12}
    return body


def test_openais_older_completions_and_embeddings_with_ollama(house: House):
    text = house.expect("ollama")
    asked = {"model": MODELS["ollama"], "prompt": PROMPT, "temperature": 0, "max_tokens": 12}
    reply = house.gateway.call("POST", "/v1/completions", asked)
    assert (reply.status, reply.json["choices"][0]["text"]) == (200, text)
    reply = house.gateway.call("POST", "/v1/embeddings", {"model": MODELS["ollama"], "input": ["hello", "hello hello"]})
    assert [len(each["embedding"]) for each in reply.json["data"]] == [64, 64]
    assert reply.json["usage"]["prompt_tokens"] > 0
    reply = house.gateway.call("POST", "/v1/embeddings", {"model": MODELS["ollama"], "input": "hello " * 1000})
    assert (reply.status, reply.json["error"]["code"]) == (400, "context_length_exceeded")


def test_a_conversation_that_only_one_provider_can_carry_is_answered_by_it_whoever_is_drawn_first(house: House):
    """Past tool calls reach the model through Claude Code only."""
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    text = house.expect("claude")
    for seed in range(6):  # each draws anew
        body = {"model": "auto", "messages": messages, "seed": seed}
        reply = house.gateway.call("POST", "/v1/chat/completions", body, {"cache-control": "no-cache"})
        assert (reply.status, reply.headers["x-llmux-provider"]) == (200, "claude"), reply
        assert reply.json["choices"][0]["message"]["content"] == text


def test_every_model_is_listed(house: House):
    listed = {entry["id"]: entry["owned_by"] for entry in house.gateway.call("GET", "/v1/models").json["data"]}
    for provider, model in MODELS.items():
        assert listed[model] == provider


@pytest.mark.parametrize(
    ("provider", "modes"),
    [
        ("claude", {"mode": "429_plan"}),
        (
            "codex",
            {
                "status": 429,
                "body": {"error": {"type": "usage_limit_reached", "message": "x", "resets_in_seconds": 99}},
            },
        ),
    ],
)
def test_v3_24_a_spent_quota_is_429_with_the_time_to_wait(tmp_path: Path, house: House, provider: str, modes: dict):
    """On a gateway of its own, so that the rest does not outlive the test."""
    house.upstreams[provider].reset()
    house.upstreams[provider].control(**modes)
    toml = (house.gateway.home / "llmux.toml").read_text()
    environ = {name: house.gateway.environ[name] for name in ("CLAUDE_CODE_OAUTH_TOKEN", "PATH")}
    with gateway_process(tmp_path / "home", toml=toml, **environ) as gateway:
        reply = gateway.call("POST", "/v1/chat/completions", chat(provider, stream=True))
        assert reply.status == 429, reply
        assert reply.json["error"]["code"] == "insufficient_quota"
        resting = gateway.call("GET", "/health").json["providers"][provider]
        assert not resting["available"]
        assert resting["cooldownUntil"] is not None
        house.upstreams[provider].reset()
        calls = len(house.upstreams[provider].log())
        again = gateway.call("POST", "/v1/chat/completions", chat(provider, stream=False))
        assert again.status == 429
        assert len(house.upstreams[provider].log()) == calls, "a resting provider was asked"
        assert gateway.stop() == 0
    assert "QuotaExhausted" in {event["type"] for event in gateway.events()}


@pytest.mark.parametrize("provider", ["claude", "codex", "gemini"])
def test_v3_9_a_client_that_goes_away_ends_the_work_for_it(house: House, provider: str):
    stalls = {"claude": {"mode": "stall"}, "codex": {"end": "stall"}, "gemini": {"mode": "hang"}}
    house.upstreams[provider].reset()
    house.upstreams[provider].control(**stalls[provider])
    connection = house.gateway.connect()
    body = json.dumps(chat(provider, stream=True)).encode()
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    until(lambda: asked(house.upstreams[provider]))
    connection.close()
    until(lambda: house.upstreams[provider].log()[-1]["closed_early"])
    until(lambda: house.gateway.call("GET", "/health").json["activeRequests"] == 0)
    ends = [event["type"] for event in house.gateway.events()][-2:]
    assert ends == ["AttemptCancelled", "RequestCancelled"]
    house.upstreams[provider].reset()


def test_no_word_of_a_prompt_is_in_the_logs_or_on_the_disk_however_its_request_ends(house: House):
    """The programs write prompts to their homes and to standard error, above all when something goes wrong."""
    ends: dict[str, list[dict[str, Any]]] = {
        "claude": [{}, {"mode": "400"}, {"mode": "cut"}, {"mode": "stall"}],
        "codex": [{}, {"status": 400, "body": {"error": {"message": "x"}}}, {"end": "cut"}, {"end": "stall"}],
        "gemini": [{}, {"mode": "bad-request"}, {"mode": "cut"}, {"mode": "hang"}],
    }
    secret = f"secret-{time.monotonic_ns()}"
    roles = ("system", "user", "assistant", "user")
    for provider, modes in ends.items():
        for number, mode in enumerate(modes):
            house.upstreams[provider].reset()
            house.upstreams[provider].control(**mode)
            messages = [{"role": role, "content": f"{secret} {number}"} for role in roles]
            body = json.dumps({"model": MODELS[provider], "messages": messages, "stream": True}).encode()
            connection = house.gateway.connect()
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            if number < len(modes) - 1:
                connection.getresponse().read()
            else:  # somebody leaves
                until(lambda standing_in=house.upstreams[provider]: asked(standing_in))
            connection.close()
        house.upstreams[provider].reset()
    until(lambda: house.gateway.call("GET", "/health").json["activeRequests"] == 0)
    until(lambda: not [file for file in house.gateway.home.rglob("*") if holds(file, secret)])
    assert secret not in json.dumps(house.gateway.lines)


def holds(file: Path, text: str) -> bool:
    """Whether a file is there and has this text in it."""
    try:
        return file.is_file() and text.encode() in file.read_bytes()
    except OSError:  # it has just been removed
        return False


def asked(standing_in: Upstream) -> bool:
    """Whether a model call has arrived (and not only what a CLI asks beside it)."""
    paths = ("/v1/messages", "/responses", "streamGenerateContent")
    return any(part in entry["path"] for entry in standing_in.log() for part in paths)


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_kill_nine_leaves_no_cli_running_and_abandons_what_was_open(tmp_path: Path, house: House):
    house.upstreams["claude"].reset()
    house.upstreams["claude"].control(mode="stall")
    toml = (house.gateway.home / "llmux.toml").read_text()
    environ = {name: house.gateway.environ[name] for name in ("CLAUDE_CODE_OAUTH_TOKEN", "PATH")}
    with gateway_process(tmp_path / "home", toml=toml, **environ) as gateway:
        connection = gateway.connect()
        body = json.dumps(chat("claude", stream=True)).encode()
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        until(lambda: asked(house.upstreams["claude"]))
        children = descendants(gateway.process.pid)
        assert children
        gateway.stop(signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
        connection.close()
        gateway.start()
        assert gateway.call("GET", "/health").json["activeRequests"] == 0
        assert gateway.stop() == 0
        types = [event["type"] for event in gateway.events()]
        assert types.count("RequestAbandoned") == 1
        verified = gateway.llmux("verify")
        assert verified.returncode == 0, verified.stderr
        assert "The chain holds" in verified.stdout
