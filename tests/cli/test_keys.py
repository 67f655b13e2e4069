"""`llmux keys`, with a gateway and without one."""

import json
from pathlib import Path

import pytest

from llmux.eventstore import own_directory
from tests.cli.running import SCRIPTED, Here
from tests.gateway import GatewayProcess, gateway_process


@pytest.fixture
def gateway(tmp_path: Path):
    environ = {"API_KEY_REQUIRED": "true", "API_KEY": "sk-an-api-key-for-tests-0001"}
    with gateway_process(tmp_path / "home", toml=SCRIPTED, **environ) as running:
        yield running


def opens(gateway: GatewayProcess, key: str) -> int:
    return gateway.call("POST", "/claude", {"prompt": "hi"}, {"authorization": f"Bearer {key}"}).status


def listed(here: Here) -> dict[str, dict]:
    return {key["id"]: key for key in json.loads(here.llmux("keys", "list", "--json").stdout)}


def test_keys_are_made_and_revoked_through_the_gateway_and_without_it_alike(gateway: GatewayProcess, tmp_path: Path):
    """No ADMIN_KEY is set: the command comes through the control socket."""
    here = Here(tmp_path / "home")
    made = here.llmux("keys", "create", "--user", "ann", "--project", "poems", "--label", "a laptop")
    key = made.stdout.strip()
    id = key.split("_")[1]
    assert made.exit_code == 0, made.stderr
    assert f"llmux keys revoke {id}" in made.stderr
    assert opens(gateway, key) == 200
    assert listed(here)[id]["label"] == "a laptop"

    assert gateway.stop() == 0
    other = json.loads(here.llmux("keys", "create", "--user", "bob", "--project", "prose", "--json").stdout)
    assert set(listed(here)) == {id, other["id"]}
    assert here.llmux("keys", "revoke", id).exit_code == 0

    gateway.start()
    assert (opens(gateway, key), opens(gateway, other["apiKey"])) == (401, 200)
    assert here.llmux("keys", "revoke", other["id"]).stdout == f"Key {other['id']} is revoked.\n"
    assert opens(gateway, other["apiKey"]) == 401
    again = here.llmux("keys", "revoke", other["id"])
    assert (again.exit_code, again.stdout) == (1, "")
    assert "llmux keys list" in again.stderr
    table = here.llmux("keys", "list").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["id", id, other["id"]]
    of_key = [event for event in gateway.events() if event["type"] in ("KeyIssued", "KeyRevoked")]
    assert [event["principal"] for event in of_key] == ["admin"] * 4


def test_limits_and_secrets_change_through_the_gateway_and_without_it_alike(gateway: GatewayProcess, tmp_path: Path):
    here = Here(tmp_path / "home")
    terms = (
        "--requests-per-minute",
        "60",
        "--tokens-per-day",
        "1000",
        "--models",
        "claude-*, auto",
        "--expires",
        "30d",
    )
    made = json.loads(here.llmux("keys", "create", "--user", "ann", "--project", "poems", *terms, "--json").stdout)
    assert set(made) == {"apiKey", "id", "userId", "projectId", "label", "limits", "expiresAt"}
    given = {name: value for name, value in made["limits"].items() if value is not None}
    assert given == {"requestsPerMinute": 60, "tokensPerDay": 1000, "models": ["claude-*", "auto"]}
    id, key = made["id"], made["apiKey"]
    for expected in (500, 501):
        wanted = ("--requests-per-minute", "none", "--requests-per-day", str(expected), "--expires", "never")
        done = here.llmux("keys", "limit", id, *wanted)
        said = f"Key {id} has these limits: {expected} requests per day, 1000 tokens per day, models claude-* auto.\n"
        assert (done.exit_code, done.stdout, done.stderr) == (0, said, "")
        changed = json.loads(
            here.llmux(
                "keys", "limit", id, "--providers", "claude", "--expires", "2099-01-01T00:00:00Z", "--json"
            ).stdout
        )
        assert (changed["limits"]["providers"], changed["expiresAt"]) == (["claude"], "2099-01-01T00:00:00.000Z")
        assert here.llmux("keys", "limit", id, "--providers", "none").exit_code == 0
        rotated = here.llmux("keys", "rotate", id)
        assert (rotated.exit_code, "shown only now" in rotated.stderr) == (0, True)
        if gateway.process.poll() is None:
            assert (opens(gateway, key), opens(gateway, rotated.stdout.strip())) == (401, 200)
            shown = listed(here)[id]
            assert (shown["used"]["requestsPerDay"], shown["state"]) == (1, "good")
            assert gateway.stop() == 0
        old, key = key, rotated.stdout.strip()
    gateway.start()
    assert (opens(gateway, old), opens(gateway, key)) == (401, 200)
    (row,) = [line for line in here.llmux("keys", "list").stdout.splitlines() if line.startswith(id)]
    assert "good" in row
    whole = here.llmux("keys", "revoke", key, "--json")
    assert (whole.exit_code, json.loads(whole.stdout)) == (0, {"success": True})
    for command in (("limit", id, "--expires", "never"), ("rotate", id)):
        refused = here.llmux("keys", *command)
        assert (refused.exit_code, refused.stdout, refused.stderr) == (
            1,
            "",
            "llmux: This key is revoked, and stays so. Make another one.\n",
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("limit", "x"), "Say what to change"),
        (("limit", "x", "--requests-per-minute", "many"), "write a whole number from 1"),
        (("limit", "x", "--tokens-per-day", "0"), "write a whole number from 1"),
        (("limit", "x", "--expires", "soon"), "such as 30d or 12h"),
        (("limit", "x", "--expires", "9" * 18), "such as 30d or 12h"),
        (("limit", "x", "--expires", "2020-01-01"), "There is no key with this id"),
        (("rotate", "x"), "There is no key with this id"),
        (("create", "--user", "u", "--project", "p", "--expires", "2020-01-01"), "expiresAt is in the past"),
        (("create", "--user", "u", "--project", "p", "--providers", "clod"), "'clod' is no provider here"),
        (("create", "--user", "u", "--project", "p", "--models", ","), "limits.models"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_an_exit_code(tmp_path: Path, words: tuple[str, ...], said: str):
    done = Here(tmp_path / "home").llmux("keys", *words)
    assert done.exit_code in (1, 2)
    assert said in done.stderr
    assert done.stdout == ""


def test_what_the_gateway_refuses_is_said_in_its_words_and_without_it_too(gateway: GatewayProcess, tmp_path: Path):
    here = Here(tmp_path / "home")
    for _ in range(2):
        refused = here.llmux("keys", "create", "--user", "x" * 201, "--project", "p")
        assert refused.exit_code == 1
        assert refused.stderr == "llmux: userId must be 1 to 200 printable characters.\n"
        gateway.stop()


def test_a_log_that_somebody_else_owns_and_nobody_answers_for_is_said_so(tmp_path: Path, monkeypatch):
    here = Here(tmp_path / "home")
    monkeypatch.setattr("llmux.cli.control.PATIENCE_S", 0.2)
    with own_directory(here.data_dir):
        refused = here.llmux("keys", "list")
    assert refused.exit_code == 1
    assert str(here.data_dir) in refused.stderr
    assert "try again in a moment" in refused.stderr
    assert here.llmux("keys", "list").stdout == "There are no keys. To make one: llmux keys create\n"
