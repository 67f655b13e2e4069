"""What the Gemini CLI is told, how its words are read, and what its home holds; nothing is started here."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.failures import Kind
from llmux.prompts import Message, Prompt, Sampling, Text, assistant, user
from llmux.providers.gemini import signs
from llmux.providers.gemini.home import Home
from llmux.providers.gemini.program import Login
from llmux.providers.gemini.translation import GUARD, plain_model_config, translate

NOW = 1_790_000_000_000
RECORDINGS = Path(__file__).parent / "recordings" / "gemini"
KEY = Login(key=True, stamp="s", identity="i")


# --- signs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("5h42m10s", 20_530_000),
        ("20530.1s", 20_530_100),
        ("2.5s", 2_500),
        ("35m", 2_100_000),
        ("1d", 86_400_000),
        ("", 0),
    ],
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert signs.duration_ms(text) == ms


def test_the_end_of_a_dump_is_enough_to_know_an_overload() -> None:
    tail = (RECORDINGS / "overloaded-silent.stderr").read_bytes()[-2000:]
    assert b"Attempt" not in tail
    assert signs.of_silence(tail, NOW).kind is Kind.OVERLOADED


def test_a_long_wait_without_words_is_a_spent_quota() -> None:
    stderr = b"Attempt 1 failed: Resource has been exhausted. Retrying after 23118630ms...\n"
    failure = signs.of_silence(stderr, NOW)
    assert (failure.kind, failure.resets_at) == (Kind.QUOTA_EXHAUSTED, NOW + 23_118_630)


@pytest.mark.parametrize("stderr", [b"", b"\xff\xfe", b"body: `Attempt 1 failed with status 503`", b"Attempt"])
def test_silence_without_a_reason_is_a_timeout(stderr: bytes) -> None:
    failure = signs.of_silence(stderr, NOW)
    assert (failure.kind, failure.phase) == (Kind.TIMED_OUT, "first_byte")


@given(st.integers(), st.text())
def test_every_error_has_a_kind_and_a_printable_sentence(code: int, message: str) -> None:
    failure = signs.of_error(code, message, NOW)
    assert failure.evidence.startswith("gemini.")
    assert str(failure).isprintable()


@given(st.binary())
def test_any_stderr_has_a_kind(stderr: bytes) -> None:
    assert signs.of_silence(stderr, NOW).evidence.startswith("gemini.")


# --- translation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh"])
@pytest.mark.parametrize(
    ("model", "never"),
    [("gemini-3-flash-preview", {"none", "xhigh"}), ("gemini-3-pro-preview", {"none", "minimal", "medium", "xhigh"}),
     ("gemini-2.5-pro", {"none", "minimal", "xhigh"}), ("gemini-2.5-flash", {"minimal", "xhigh"}),
     ("gemini-2.0-flash", {"none", "minimal", "low", "medium", "high", "xhigh"})],
)  # fmt: skip
def test_an_effort_is_carried_or_named_as_ignored(model: str, effort: str, never: set[str]) -> None:
    translation = translate(Prompt((user("hi"),), sampling=Sampling(reasoning_effort=effort)), model)  # type: ignore[arg-type]
    assert translation.ignored == (("reasoning_effort",) if effort in never else ())


def test_a_tool_that_nobody_offered_is_no_answer_and_is_not_billed_twice() -> None:
    failure = signs.of_stop("max_turn_requests", False, 5, 5)
    assert failure is not None
    assert (failure.kind, failure.evidence) == (Kind.GARBLED, "gemini.unknown_tool")
    assert failure.policy.tries == 1
    assert failure.policy.cools_ms == 0


def test_equal_wishes_have_equal_texts() -> None:
    one = Prompt((user("a"),), json_schema={"type": "object", "title": "t"})
    other = Prompt((user("b"),), json_schema={"title": "t", "type": "object"})
    assert translate(one, "m").model_config == translate(other, "m").model_config
    assert translate(Prompt((user("a"),)), "m").model_config == plain_model_config("m")


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1, max_size=4))
def test_a_guard_is_all_that_is_ever_added_to_a_text(texts: list[str]) -> None:
    translation = translate(Prompt((Message("user", tuple(Text(text) for text in texts)),)), "m")
    sent = "".join(block["text"] for block in translation.blocks)
    assert sent in ("".join(texts), GUARD + "".join(texts))
    assert all(block["text"] for block in translation.blocks)
    assert not sent.strip(" \t\n\v\f\r\ufeff\u00a0\u2028\u2029").startswith(("/", "?", "$"))


# --- home -----------------------------------------------------------------------------------------------------------


def _request(home: Home) -> None:
    prompt = Prompt(
        (user("canary"), assistant("canary"), user("canary")), system="canary", json_schema={"title": "canary"}
    )
    home.open("r1", "11111111-0000", translate(prompt, "m"))
    home.open("r2", "22222222-0000", translate(Prompt(prompt.messages[-1:], json_schema=prompt.json_schema), "m"))


def _holding(directory: Path, word: str) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and word in path.read_text("utf-8")]


def test_a_home_is_private_and_holds_words_of_a_prompt_only_while_it_is_answered(tmp_path: Path) -> None:
    home = Home(tmp_path / "worker-1")
    home.prepare(KEY, ('{"model":"m","generateContentConfig":{"stopSequences":["canary"]}}',))
    assert home.directory.stat().st_mode & 0o777 == 0o700
    assert len(_holding(home.directory, "canary")) == 1
    home.forget_model_configs(KEY)
    assert _holding(home.directory, "canary") == []
    _request(home)
    assert len(_holding(home.directory, "canary")) >= 2
    home.clean()
    assert _holding(home.directory, "canary") == []
    home.remove()
    assert list(tmp_path.iterdir()) == []


def test_only_one_configuration_of_a_renamed_model_gets_an_override(tmp_path: Path) -> None:
    home = Home(tmp_path / "worker-1")
    texts = (
        '{"model":"gemini-3-pro-preview","generateContentConfig":{"seed":1}}',
        plain_model_config("gemini-2.0-flash"),
    )
    assert home.prepare(KEY, texts) == {texts[0]: "m0", texts[1]: "m1"}
    settings = json.loads((home.directory / ".gemini" / "settings.json").read_text())
    overrides = settings["modelConfigs"]["customOverrides"]
    assert [entry["modelConfig"]["generateContentConfig"] for entry in overrides] == [{"seed": 1}] * 2


@pytest.mark.parametrize("writable", [True, False])
def test_a_login_is_shared_by_a_link_or_copied_when_it_is_read_only(tmp_path: Path, writable: bool) -> None:
    file = tmp_path / "oauth_creds.json"
    file.write_text('{"refresh_token": "y"}')
    home = Home(tmp_path / "worker-1")
    home.prepare(Login(key=False, stamp="s", identity="i", file=file, writable=writable), ())
    mine = home.directory / ".gemini" / "oauth_creds.json"
    assert mine.is_symlink() is writable
    assert mine.read_text() == file.read_text()
    home.clean()
    home.remove()
    assert file.exists()


def test_the_environment_holds_nothing_of_the_gateways_own(tmp_path: Path) -> None:
    env = Home(tmp_path).environment({**os.environ, "LLMUX_SECRET": "s", "HTTPS_PROXY": "p"}, {"GEMINI_API_KEY": "k"})
    assert "LLMUX_SECRET" not in env
    assert "HTTPS_PROXY" not in env
    assert (env["GEMINI_API_KEY"], env["GEMINI_CLI_NO_RELAUNCH"]) == ("k", "true")


def _node_reads(options: str) -> list[str]:
    """NODE_OPTIONS as node splits it: blanks part, quotes join, and in them a backslash takes the next character as it is."""
    words, quoted, rest = [""], False, iter(options)
    for char in rest:
        if char == "\\" and quoted:
            words[-1] += next(rest)
        elif char == '"':
            quoted = not quoted
        elif char == " " and not quoted:
            words.append("")
        else:
            words[-1] += char
    return words


@pytest.mark.parametrize("name", ["josé", "a b", 'a"b', "a\\b", "名前"])
def test_node_finds_the_note_taker_under_any_path_and_hears_the_settings_too(tmp_path: Path, name: str) -> None:
    file = tmp_path / "oauth_creds.json"
    file.write_text('{"refresh_token": "y"}')
    home = Home(tmp_path / name)
    home.prepare(Login(key=False, stamp="s", identity="i", file=file), ())
    taker = str(tmp_path / name / "quota.cjs")
    assert _node_reads(home.environment({}, {})["NODE_OPTIONS"]) == [f"--require={taker}"]
    both = home.environment({}, {"NODE_OPTIONS": "--max-semi-space-size=4"})["NODE_OPTIONS"]
    assert _node_reads(both) == [f"--require={taker}", "--max-semi-space-size=4"]


def test_a_full_disk_keeps_no_words_of_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "worker-1")
    home.prepare(KEY, ())
    _request(home)

    def full(file: Path, text: str) -> None:
        file.write_bytes(b"")  # opening it cuts it
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(home, "_write", full)
    with pytest.raises(OSError, match="No space"):
        home.clean()
    assert _holding(home.directory, "canary") == []
