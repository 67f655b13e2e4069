"""The adapter of the Gemini CLI over real processes that misbehave in ways that only its protocol knows."""

import errno
import json
from pathlib import Path

import pytest
import trio

from llmux.config import Account
from llmux.failures import Kind
from llmux.prompts import Image, Message, Prompt, Text, Tool, ToolCall, assistant, user
from llmux.providers.gemini import worker
from llmux.providers.gemini.home import Home
from tests.providers.gemini_rig import Make, answered, failed, google_login, maker, notes, serving
from tests.providers.hearing import descendants


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """An adapter over the misbehaving program in the given mode, with an API key unless `env` says otherwise."""
    return maker(tmp_path)


# --- hostile programs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind"), [("garbage", Kind.GARBLED), ("exit 41", Kind.LOGGED_OUT), ("dies when ready", Kind.CRASHED)]
)
async def test_a_worker_that_is_of_no_use_leaves_no_process_and_no_file(
    make: Make, tmp_path: Path, mode: str, kind: Kind
) -> None:
    adapter = make(mode)
    before = set(descendants())
    async with serving(adapter):
        assert (await failed(adapter)).kind is kind
        with trio.fail_after(5):
            while set(descendants()) - before or list((tmp_path / "private").iterdir()):
                await trio.sleep(0.01)
        statistics = adapter.statistics()
        assert (statistics.starting, statistics.idle, statistics.busy) == (0, 0, 0)


async def test_a_login_dialog_is_a_logout_and_hears_nothing_more(make: Make, tmp_path: Path) -> None:
    google_login(tmp_path)
    adapter = make("login dialog", env={})
    async with serving(adapter):
        failure = await failed(adapter, "a canary")
    assert (failure.kind, failure.evidence) == (Kind.LOGGED_OUT, "gemini.login_dialog")
    assert [line["method"] for line in notes(tmp_path)] in ([], ["initialize"])


async def test_a_program_that_never_gets_ready_is_given_up(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker, "START_MS_MAX", 100)
    adapter = make("mute")
    async with serving(adapter):
        failure = await failed(adapter)
    assert (failure.kind, failure.phase) == (Kind.TIMED_OUT, "first_byte")


async def test_silence_is_explained_by_what_the_program_says_when_it_ends(make: Make) -> None:
    adapter = make("says nothing", first_byte_ms_max=1500)
    async with serving(adapter):
        assert (await failed(adapter)).evidence == "gemini.503"


async def test_what_the_program_asks_for_is_refused(make: Make) -> None:
    adapter = make("asks")
    async with serving(adapter):
        heard = await answered(adapter)
    assert json.loads(heard.text.removesuffix("hi")) == [{"outcome": {"outcome": "cancelled"}}, -32601]


async def test_a_finished_answer_stands_when_its_words_cannot_be_cleaned_away(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(home: Home) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    adapter = make()
    async with serving(adapter):
        with monkeypatch.context() as patch:
            patch.setattr(Home, "clean", full)
            assert (await answered(adapter)).answer.text == "hi"
        assert (await answered(adapter)).answer.text == "hi"
        assert adapter.statistics().started == 2
        assert [path.name for path in adapter._place.directory.iterdir()] == ["worker-2"]


async def test_no_session_is_used_twice(make: Make, tmp_path: Path) -> None:
    adapter = make()
    async with serving(adapter):
        for _ in range(3):
            await answered(adapter)
    methods = [line["method"] for line in notes(tmp_path)]
    assert methods == ["initialize", *["session/new", "session/prompt"] * 3]
    folders = [line["params"]["cwd"] for line in notes(tmp_path) if line["method"] == "session/new"]
    assert len(set(folders)) == 3  # the CLI keeps the settings of a folder


async def test_a_waiting_prompt_gets_the_worker_when_the_one_before_is_done(make: Make) -> None:
    adapter = make()
    texts: list[str] = []

    async def one(text: str) -> None:
        texts.append((await answered(adapter, text)).text)

    async with serving(adapter), trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one, f"n{number}")
    assert sorted(texts) == [f"n{number}" for number in range(5)]
    assert adapter.statistics().started == 1


async def test_who_gives_up_waiting_leaves_no_trace(make: Make) -> None:
    adapter = make()
    async with serving(adapter):
        with trio.move_on_after(0):
            await answered(adapter)
        assert (await answered(adapter)).text == "hi"
        assert adapter.statistics().started == 1


# --- before anything is started -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [None, "no json", "[]", '{"access_token": "x"}', '{"refresh_token": ""}'])
async def test_without_a_usable_login_nothing_is_started(make: Make, tmp_path: Path, stored: str | None) -> None:
    if stored is not None:
        google_login(tmp_path).write_text(stored)
    adapter = make(env={}, warm=1)
    readiness = await adapter.probe()
    assert (readiness.installed, readiness.logged_in) == (True, False)
    assert "Type: " in readiness.sentence
    async with serving(adapter):
        assert (await failed(adapter)).kind is Kind.LOGGED_OUT
    assert notes(tmp_path) == []


async def test_without_the_program_it_serves_and_says_what_to_type(make: Make) -> None:
    adapter = make(command="/nowhere/gemini")
    readiness = await adapter.probe()
    assert not readiness.installed
    assert "npm install -g @google/gemini-cli" in readiness.sentence
    async with serving(adapter):
        assert (await failed(adapter)).kind is Kind.UNAVAILABLE


async def test_a_script_without_node_is_not_installed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmux.providers.gemini.program._node", lambda path: None)
    script = tmp_path / "gemini.js"
    script.write_text("")
    script.chmod(0o755)
    readiness = await make(command=str(script)).probe()
    assert not readiness.installed
    assert "Node.js" in readiness.sentence


async def test_the_login_stamp_changes_with_the_file(make: Make, tmp_path: Path) -> None:
    adapter = make(env={})
    google_login(tmp_path)
    first = (await adapter.probe()).login_stamp
    google_login(tmp_path, refresh_token="another one")
    assert first != (await adapter.probe()).login_stamp != ""


async def test_a_login_file_that_is_just_being_written_is_no_logout(make: Make, tmp_path: Path) -> None:
    adapter, file = make(env={}), google_login(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:10])
    async with trio.open_nursery() as nursery:

        async def finish_writing() -> None:
            await trio.sleep(0.01)
            file.write_bytes(whole)

        nursery.start_soon(finish_writing)
        assert (await adapter.probe()).logged_in
    file.write_bytes(whole[:10])
    assert not (await adapter.probe()).logged_in  # but what stays half is none


async def test_an_account_has_its_own_login(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "work" / ".gemini"
    folder.mkdir(parents=True)
    for place in (folder, tmp_path / "work"):
        account = Account(name="work", config_dir=str(tmp_path / "work"))
        adapter = make(env={}, account=account, accounts=(Account(), account))
        readiness = await adapter.probe()
        assert not readiness.logged_in
        assert "llmux login gemini --account work" in readiness.sentence
        (place / "oauth_creds.json").write_text('{"refresh_token": "y"}')
        assert (await adapter.probe()).logged_in
        (place / "oauth_creds.json").unlink()


REFUSED = [
    (Prompt((user("hi"),), tools=(Tool("f"),)), Kind.UNSUPPORTED),
    (Prompt((user("hi"), Message("assistant", (ToolCall("1", "f", "{}"),)), user("hi"))), Kind.UNSUPPORTED),
    (Prompt((user("hi"), assistant("ho"))), Kind.INVALID_REQUEST),
    (Prompt(()), Kind.INVALID_REQUEST),
    (Prompt((user("half \ud800"),)), Kind.INVALID_REQUEST),
    (Prompt((user("hi"),), system="\udfff"), Kind.INVALID_REQUEST),
]


@pytest.mark.parametrize(("prompt", "kind"), REFUSED, ids=range(len(REFUSED)))
async def test_what_the_cli_cannot_be_told_is_refused_before_anything_starts(
    make: Make, tmp_path: Path, prompt: Prompt, kind: Kind
) -> None:
    adapter = make()
    async with serving(adapter):
        assert (await failed(adapter, prompt)).kind is kind
    assert notes(tmp_path) == []


async def test_images_and_texts_become_blocks_in_order(make: Make, tmp_path: Path) -> None:
    adapter = make()
    parts = (Image("image/png", "AAAA"), Text("/what is this?"))
    async with serving(adapter):
        await answered(adapter, Prompt((Message("user", parts),)))
    assert notes(tmp_path)[-1]["params"]["prompt"] == [
        {"type": "image", "mimeType": "image/png", "data": "AAAA"},
        {"type": "text", "text": "/what is this?"},
    ]
