"""`llmux forget`, with a gateway and without one: what was kept is in no file afterwards, and the chain holds."""

import re
from pathlib import Path

import pytest

from tests.cli.running import SCRIPTED, Here
from tests.gateway import GatewayProcess, gateway_process

CANARY = "canary4711"
KEEPING = {"RECORD_CONTENT": "true", "CONTENT_RETENTION_DAYS": "30"}


@pytest.fixture
def gateway(tmp_path: Path):
    with gateway_process(tmp_path / "home", toml=SCRIPTED, **KEEPING) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path) -> Here:
    here = Here(tmp_path / "home")
    here.environ.update(KEEPING)
    return here


def ask(gateway: GatewayProcess) -> str:
    reply = gateway.call("POST", "/claude", {"prompt": f"{CANARY} sings"})
    assert reply.status == 200
    return reply.json["request_id"]


def files_with_the_canary(gateway: GatewayProcess) -> set[str]:
    files = [path for path in gateway.home.rglob("*") if path.is_file()]
    return {path.name for path in files if CANARY.encode() in path.read_bytes()}


def test_text_is_forgotten_through_the_gateway_and_without_it_alike(gateway: GatewayProcess, here: Here):
    """No ADMIN_KEY is set: the command comes through the control socket."""
    ids = [ask(gateway) for _ in range(4)]
    assert here.llmux("forget", "--request", ids[0]).stdout == "Forgot the text of 1 request.\n"
    assert here.llmux("forget", "--request", ids[0]).stdout == "Nothing of that was kept.\n"
    assert here.llmux("forget", "--before", "1d").stdout == "Nothing of that was kept.\n"
    assert files_with_the_canary(gateway) <= {"content.db", "content.db-wal"}

    assert gateway.stop() == 0
    assert files_with_the_canary(gateway) == {"content.db"}
    assert here.llmux("forget", "--request", ids[1]).stdout == "Forgot the text of 1 request.\n"
    assert here.llmux("forget", "--before", "0d").stdout == "Forgot the text of 2 requests.\n"
    assert files_with_the_canary(gateway) == set()

    gateway.start()
    ask(gateway)
    assert here.llmux("forget", "--key", "local").stdout == "Forgot the text of 1 request.\n"
    assert files_with_the_canary(gateway) == set()
    said = [event["data"] for event in gateway.events() if event["type"] == "ContentForgotten"]
    assert [(fact["scope"], fact["answers"]) for fact in said] == [
        ("request", 1),
        ("request", 1),
        ("before", 2),
        ("key", 1),
    ]
    assert "The chain holds" in here.llmux("verify").stdout
    assert not any(CANARY in str(line) for line in gateway.lines)


def test_what_is_not_clear_forgets_nothing(gateway: GatewayProcess, here: Here):
    ask(gateway)
    for args, why in {
        (): "one of --request, --key and --before",
        ("--request", "r", "--key", "k"): "one of --request, --key and --before",
        ("--before", "yesterday"): "an age such as 30d",
        ("--before", "30 d"): "an age such as 30d",
        ("--before", "2999-01-01"): "lies in the future",
        ("--request", "r" * 201): "at most 200 characters",
    }.items():
        refused = here.llmux("forget", *args)
        assert refused.exit_code != 0, args
        assert why in " ".join(re.sub(r"[│\s]+", " ", refused.stderr).split()), (args, refused.stderr)
    assert here.llmux("forget", "--before", "2020-01-01").stdout == "Nothing of that was kept.\n"
    assert here.llmux("forget", "--before", "0d").stdout == "Forgot the text of 1 request.\n"


def test_a_gateway_that_is_to_keep_text_for_nobody_knows_how_long_does_not_start(gateway: GatewayProcess):
    gateway.stop()
    del gateway.environ["CONTENT_RETENTION_DAYS"]
    refused = gateway.llmux("serve")
    assert refused.returncode == 2
    assert "CONTENT_RETENTION_DAYS" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_key_can_be_made_whose_text_alone_is_kept(gateway: GatewayProcess, here: Here):
    made = here.llmux("keys", "create", "--user", "ann", "--project", "poems", "--record-content")
    assert made.exit_code == 0
    gateway.stop()
    del gateway.environ["RECORD_CONTENT"]
    api_key = "sk-an-api-key-for-tests-0001"
    gateway.environ.update({"API_KEY_REQUIRED": "true", "API_KEY": api_key})
    gateway.start()
    for key, files in ((api_key, set()), (made.stdout.strip(), {"content.db"})):
        reply = gateway.call("POST", "/claude", {"prompt": CANARY}, {"x-api-key": key})
        assert reply.status == 200
        gateway.stop()
        assert files_with_the_canary(gateway) == files
        gateway.start()
