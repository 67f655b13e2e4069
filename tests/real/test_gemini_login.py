"""The real Gemini CLI with a Google login, against the stand-in of Code Assist and of Google's OAuth hosts."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trio

from llmux.config import Account
from llmux.failures import Kind
from llmux.prompts import Prompt, Sampling, Usage, assistant, user
from tests.providers.hearing import Heard, descendants
from tests.real.gemini_running import FLASH, PRO, Running, adapter_of, run, with_google, write_login
from tests.upstreams.running import Upstream, upstream

HISTORY = Prompt((user("a"), assistant("b"), user("c")), system="S", sampling=Sampling(temperature=0.4))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with upstream("gemini", "--certificates", str(tmp_path_factory.mktemp("ca"))) as standing_in:
        yield standing_in


@pytest.fixture(scope="module")
def shared(api: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An adapter whose login has expired when it starts."""
    directory = tmp_path_factory.mktemp("gemini")
    write_login(directory / "home" / ".gemini", expires_in_s=-60)
    adapter = adapter_of(directory, with_google(api), models=(FLASH, PRO), concurrency=2, warm=1)
    with run(adapter, api, directory) as running:
        yield running


@pytest.fixture
def gemini(shared: Running) -> Running:
    shared.api.reset()
    return shared


@pytest.fixture
def alone(api: Upstream, tmp_path: Path) -> Iterator[Running]:
    """An adapter of one test's own, with nothing warm; the login stands in a folder of its own account."""
    api.reset()
    write_login(tmp_path / "login")
    account = Account(config_dir=str(tmp_path / "login"))
    adapter = adapter_of(tmp_path, with_google(api), account, concurrency=1, warm=0)
    with run(adapter, api, tmp_path) as running:
        yield running


def test_an_expired_token_is_renewed_by_the_cli_and_stored_in_the_login_itself(shared: Running) -> None:
    assert shared.say("hello").text == "hello"
    login = json.loads((shared.directory / "home" / ".gemini" / "oauth_creds.json").read_text())
    assert (login["access_token"], login["refresh_token"]) == ("ya29.renewed", "1//of-the-tests")
    tokens = [entry["headers"].get("authorization") for entry in shared.api.log() if "v1internal" in entry["path"]]
    assert set(tokens) == {"Bearer ya29.renewed"}


def test_a_prompt_with_history_and_sampling_arrives_through_code_assist(gemini: Running) -> None:
    gemini.api.control(text="d", mode="think", thoughts=3)
    heard = gemini.say(HISTORY)
    body = gemini.sent()[0]
    assert (heard.text, heard.answer.finish.model) == ("d", FLASH)
    assert heard.answer.finish.usage == Usage(input_tokens=42, output_tokens=10, reasoning_tokens=3)
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
    assert body["generationConfig"] == {"temperature": 0.4, "thinkingConfig": {"includeThoughts": True}}
    assert body["systemInstruction"]["parts"] == [{"text": "S"}]


@pytest.mark.parametrize(
    ("mode", "model", "kind", "evidence"),
    [
        ("bad-request", FLASH, Kind.INVALID_REQUEST, "gemini.400"),
        ("unauthorized", FLASH, Kind.LOGGED_OUT, "gemini.401"),
        ("forbidden", FLASH, Kind.LOGGED_OUT, "gemini.403"),
        ("verify", FLASH, Kind.INELIGIBLE, "gemini.validation_required"),
        ("no-model", FLASH, Kind.MODEL_NOT_FOUND, "gemini.model_not_found"),
        ("spent-day", FLASH, Kind.QUOTA_EXHAUSTED, "gemini.quota_day"),
        ("spent", PRO, Kind.QUOTA_EXHAUSTED, "gemini.quota_reset"),
        ("overloaded", PRO, Kind.OVERLOADED, "gemini.503"),
        ("blocked", FLASH, Kind.REFUSED, "gemini.blocked"),
        ("cut", FLASH, Kind.GARBLED, "gemini.stream_broken"),
        ("no-finish", FLASH, Kind.GARBLED, "gemini.no_finish"),
    ],
)
def test_a_failure_is_recognised(gemini: Running, mode: str, model: str, kind: Kind, evidence: str) -> None:
    gemini.api.control(mode=mode, text="a half answer")
    heard = Heard()
    failure = gemini.fail("hi", model, heard)
    assert (failure.kind, failure.evidence) == (kind, evidence)
    assert "a half answer".startswith(heard.text)


def test_an_account_without_previews_is_answered_by_another_model_and_that_is_told(alone: Running) -> None:
    alone.api.control(previews=False)
    wish = Sampling(temperature=0.4, max_tokens=50)
    finish = alone.say(Prompt((user("a"),), sampling=wish)).answer.finish
    assert (finish.model, finish.ignored) == ("gemini-3.5-flash", ())
    assert alone.sent()[-1]["generationConfig"]["temperature"] == 0.4
    finish = alone.say(Prompt((user("a"), assistant("b"), user("c")), sampling=wish)).answer.finish
    assert (finish.model, finish.ignored) == ("gemini-3.5-flash", ("temperature", "max_tokens"))


def test_half_an_event_inside_an_answer_is_passed_over(gemini: Running) -> None:
    """Only with a Google login; with an API key the same bytes end the answer as an error."""
    gemini.api.control(mode="half-event", text="a whole answer")
    assert gemini.say("hi").text == "a whole answer"


def test_the_reason_for_silence_is_found(api: Upstream, tmp_path: Path) -> None:
    api.reset()
    write_login(tmp_path / "home" / ".gemini")
    found: dict[str, str] = {}
    adapter = adapter_of(tmp_path, with_google(api), concurrency=2, warm=2, first_byte_ms_max=5000)
    with run(adapter, api, tmp_path) as running:
        running.until(lambda: adapter.statistics().idle == 2)

        async def one(mode: str) -> None:
            big = (
                "x" * 50_000
            )  # the CLI writes the request into its dump of the error, which pushes the first words out
            found[mode] = (await running.failure(f"{big} [[{mode}]]")).evidence

        async def both() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one, "drop")
                nursery.start_soon(one, "overloaded")

        running.run(both)
    assert found == {"drop": "gemini.unreachable", "overloaded": "gemini.503"}


def test_a_login_that_cannot_be_renewed_is_a_logout_and_the_dialog_gets_nothing(alone: Running, tmp_path: Path) -> None:
    write_login(tmp_path / "login", expires_in_s=-60)
    alone.api.control(login="revoked")
    failure = alone.fail("my canary prompt")
    assert (failure.kind, failure.evidence) == (Kind.LOGGED_OUT, "gemini.login_dialog")
    bodies = [entry["body"] for entry in alone.api.log()]
    assert not any("canary" in body for body in bodies)
    assert [parse_qs(body).get("code") for body in bodies if "grant_type" in body] == [None]
    assert alone.adapter.statistics().idle == 0


def test_a_login_that_cannot_be_written_is_renewed_in_a_copy_of_the_workers_own(
    alone: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = write_login(tmp_path / "login", expires_in_s=-60).read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everywhere
    assert alone.say("hello").text == "hello"
    assert (tmp_path / "login" / "oauth_creds.json").read_bytes() == stored


@pytest.mark.parametrize("prompt", [Prompt((user("a"),)), HISTORY], ids=["new", "loaded"])
@pytest.mark.parametrize(("login", "kind"), [("refused", Kind.LOGGED_OUT), ("ineligible", Kind.INELIGIBLE)])
def test_an_account_that_code_assist_turns_away(alone: Running, login: str, kind: Kind, prompt: Prompt) -> None:
    alone.api.control(login=login)
    assert alone.fail(prompt).kind is kind


def test_without_a_login_nothing_is_started(alone: Running, tmp_path: Path) -> None:
    (tmp_path / "login" / "oauth_creds.json").unlink()
    before = set(descendants())
    failure = alone.fail("hi")
    assert (failure.kind, failure.evidence) == (Kind.LOGGED_OUT, "gemini.no_login")
    assert set(descendants()) == before
    assert alone.adapter.statistics().started == 0


def test_after_a_login_of_somebody_else_no_worker_answers_for_the_old_one(alone: Running, tmp_path: Path) -> None:
    alone.say("hi")
    write_login(tmp_path / "login", refresh_token="1//of-somebody-else")
    alone.say("hi")
    assert alone.adapter.statistics().started == 2
