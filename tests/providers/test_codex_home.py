"""What Codex finds on the disk: the generated CODEX_HOME, the login, the program."""

import json
import os
import platform
import sys
import time
import tomllib
from pathlib import Path

import pytest
import trio

from llmux.config import Account
from llmux.failures import ConfigurationWrong, Kind, ProviderFailure
from llmux.providers.adapter import Place
from llmux.providers.codex import CodexAdapter, home, login, program
from llmux.providers.logins import sign_in
from tests.providers.codex_login import token, write_login
from tests.providers.hearing import place_of


def written(place: Place) -> dict[str, object]:
    home.clear(place)
    home.write(place, login.read(place))
    return tomllib.loads((place.directory / "home/config.toml").read_text())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_login(tmp_path / "login")
    return place_of("codex", tmp_path, account=Account(config_dir=str(tmp_path / "login")))


def test_the_configuration_switches_everything_off_but_the_model(place: Place) -> None:
    config = written(place)
    assert config["model_provider"] == "llmux"
    assert config["thread_unload_delay_secs"] == 0
    assert set(config["features"].values()) == {False}  # type: ignore[attr-defined]
    provider = config["model_providers"]["llmux"]  # type: ignore[index]
    assert (provider["request_max_retries"], provider["stream_max_retries"]) == (0, 0)
    assert provider["base_url"] == "https://chatgpt.com/backend-api/codex"


def test_the_upstream_can_be_another_one(place: Place, tmp_path: Path) -> None:
    there = place_of("codex", tmp_path, account=place.account, base_url='http://127.0.0.1:1/"\\x')
    assert written(there)["model_providers"]["llmux"]["base_url"] == 'http://127.0.0.1:1/"\\x'  # type: ignore[index]


def test_an_api_key_goes_to_the_api_and_asks_for_no_summaries(place: Place) -> None:
    (login.directory(place) / "auth.json").write_text('{"auth_mode": "apikey", "OPENAI_API_KEY": "sk-made-up"}')
    config = written(place)
    assert config["model_providers"]["llmux"]["base_url"] == "https://api.openai.com/v1"  # type: ignore[index]
    assert config["model_reasoning_summary"] == "none"
    assert "sk-made-up" not in (place.directory / "home/config.toml").read_text()


def test_a_codex_with_the_models_of_an_ollama_has_no_login_and_needs_none(tmp_path: Path) -> None:
    write_login(tmp_path / "login")  # there is one, and Codex does not hear of it
    account = Account(config_dir=str(tmp_path / "login"))
    place = place_of("codex", tmp_path, account=account, oss=True, base_url="http://127.0.0.1:11434/v1")
    config = written(place)
    provider = config["model_providers"]["llmux"]  # type: ignore[index]
    assert (provider["base_url"], provider["requires_openai_auth"]) == ("http://127.0.0.1:11434/v1", False)
    assert config["chatgpt_base_url"] == "http://127.0.0.1:11434/v1"
    assert not os.path.lexists(place.directory / "home/auth.json")
    assert login.stamp(place) == login.read(place).stamp == ""
    with pytest.raises(ConfigurationWrong, match="needs no login"):
        sign_in(place)


def test_the_catalog_names_each_upstream_model_once(place: Place, tmp_path: Path) -> None:
    there = place_of(
        "codex",
        tmp_path,
        account=place.account,
        default_model="a",
        models=("a", "b", "c"),
        upstream={"b": "x", "c": "x"},
    )
    written(there)
    models = json.loads((there.directory / "home/catalog.json").read_text())["models"]
    assert [model["slug"] for model in models] == ["a", "x"]
    assert all(model["context_window"] == 100_000_000 and model["shell_type"] == "disabled" for model in models)


def test_the_login_is_a_link_so_that_a_refresh_is_saved_where_it_belongs(place: Place) -> None:
    written(place)
    assert (place.directory / "home/auth.json").readlink() == login.directory(place) / "auth.json"
    home.write(place, login.read(place))  # once more over an existing one
    assert (place.directory / "home/auth.json").is_symlink()


def test_a_lent_login_is_not_in_the_home_at_all(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    written(place)
    monkeypatch.setattr(login, "_writes_through", lambda path: False)
    home.write(place, login.read(place))
    assert not os.path.lexists(place.directory / "home/auth.json")


def test_what_an_earlier_run_left_is_gone_and_only_we_may_look(place: Place) -> None:
    written(place)
    (place.directory / "home/logs.sqlite").write_text("a prompt")
    home.clear(place)
    assert list((place.directory / "home").iterdir()) == []
    assert {(place.directory / name).stat().st_mode & 0o777 for name in ("home", "user")} == {0o700}


def test_the_working_directory_is_empty_read_only_and_not_the_home(place: Place) -> None:
    _, empty = home.paths(place)
    for _ in range(2):  # over what an earlier run left, too
        home.clear(place)
        assert empty.stat().st_mode & 0o777 == 0o500
        assert list(empty.iterdir()) == []
    assert home.environment(place)["HOME"] != str(empty)


def test_the_environment_is_a_short_list(place: Place, tmp_path: Path) -> None:
    there = place_of(
        "codex", tmp_path, account=place.account, environ={"OPENAI_API_KEY": "x", "HTTPS_PROXY": "y"}, env={"MORE": "z"}
    )
    environment = home.environment(there)
    assert set(environment) == {"CODEX_HOME", "HOME", "LANG", "MORE", "PATH", "TERM"}
    assert environment["HOME"] == str(there.directory / "user")


# --- the login -------------------------------------------------------------------------------------------------------


def test_the_login_is_where_the_account_or_codex_says(tmp_path: Path) -> None:
    plain = place_of("codex", tmp_path)
    assert login.directory(plain) == tmp_path / "home/.codex"
    moved = place_of("codex", tmp_path, environ={"CODEX_HOME": "/elsewhere"})
    assert login.directory(moved) == Path("/elsewhere")
    account = place_of("codex", tmp_path, environ={"CODEX_HOME": "/elsewhere"}, account=Account(config_dir="/second"))
    assert login.directory(account) == Path("/second")


@pytest.mark.parametrize(
    "stored", ["", "{", "[]", "{}", '{"tokens": null, "OPENAI_API_KEY": null}', '{"tokens": {"access_token": ""}}', "7"]
)
def test_a_file_that_is_no_login_is_logged_out(place: Place, stored: str) -> None:
    (login.directory(place) / "auth.json").write_text(stored)
    with pytest.raises(ProviderFailure) as caught:
        login.read(place)
    assert caught.value.kind is Kind.LOGGED_OUT
    assert str(caught.value).endswith("type: llmux login codex")


@pytest.mark.parametrize("half", ["", '{"tokens": {"access_'])
async def test_a_login_that_is_just_being_written_is_read_again_before_half_a_file_is_believed(
    place: Place, half: str, virtual_time: object
) -> None:
    path = login.directory(place) / "auth.json"
    whole = path.read_text()
    path.write_text(half)

    async def finish() -> None:
        await trio.sleep(0.015)
        path.write_text(whole)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(finish)
        assert (await login.settled(place)).account_id == "account-1"
    path.write_text(half)
    with pytest.raises(ProviderFailure) as caught:
        await login.settled(place)
    assert caught.value.evidence == "codex.login.unreadable"


def test_an_owner_is_the_same_after_a_refresh_and_another_after_another_login(place: Place) -> None:
    before = login.read(place)
    write_login(login.directory(place), mark="renewed")
    assert login.read(place).identity == before.identity
    write_login(login.directory(place), account="account-2")
    assert login.read(place).identity != before.identity
    keys = []
    for key in ("sk-one", "sk-two"):
        (login.directory(place) / "auth.json").write_text(json.dumps({"OPENAI_API_KEY": key}))
        keys.append(login.read(place).identity)
        assert key not in repr(keys)
    assert len({before.identity, *keys}) == 3


def test_a_login_tells_its_account_plan_and_end_and_never_its_token(place: Place) -> None:
    known = login.read(place)
    assert (known.account_id, known.plan, known.api_key, known.lent) == ("account-1", "plus", False, False)
    assert known.expires_at is not None
    assert abs(known.expires_at - (time.time() + 864_000) * 1000) < 60_000
    assert known.access_token not in repr(known)


def test_tokens_that_are_no_jwt_are_a_login_all_the_same(place: Place) -> None:
    (login.directory(place) / "auth.json").write_text('{"tokens": {"access_token": "opaque.#.x", "account_id": "a"}}')
    known = login.read(place)
    assert (known.access_token, known.account_id, known.plan, known.expires_at) == ("opaque.#.x", "a", None, None)


def test_the_stamp_changes_with_the_login(place: Place) -> None:
    before = login.stamp(place)
    write_login(login.directory(place), mark="another")
    assert login.stamp(place) not in ("", before)
    (login.directory(place) / "auth.json").unlink()
    assert login.stamp(place) == ""


def test_a_file_that_is_itself_a_mount_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refreshed login could not be renamed over it, and the spent refresh token would be all that is left."""
    line = "36 35 98:0 /auth.json /creds/a\\040b/auth.json rw,noatime - ext4 /dev/root rw\n"
    monkeypatch.setattr(Path, "read_text", lambda *_: line)
    assert login._is_mounted(Path("/creds/a b/auth.json"))
    assert not login._is_mounted(Path("/creds/a b"))


async def test_an_expired_token_that_was_only_lent_is_logged_out(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(login, "_writes_through", lambda path: False)
    adapter = CodexAdapter(place)
    assert (await adapter._login_now())[0]
    write_login(tmp_path / "login", expires_in=-5)
    logged_in, sentence = await adapter._login_now()
    assert not logged_in
    assert "expired" in sentence


# --- the program -----------------------------------------------------------------------------------------------------

TRIPLE = {"linux": "unknown-linux-musl", "darwin": "apple-darwin"}[sys.platform]
MACHINE = "aarch64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"


@pytest.mark.parametrize("place_of_binary", ["codex-x", "codex/node_modules/@openai/codex-x", "codex"])
def test_the_native_program_is_found_beside_npms_script(tmp_path: Path, place_of_binary: str) -> None:
    scope = tmp_path / "node_modules/@openai"
    script = scope / "codex/bin/codex.js"
    binary = scope / place_of_binary / f"vendor/{MACHINE}-{TRIPLE}/bin/codex"
    for path in (script, binary):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o755)
    (tmp_path / "codex").symlink_to(script)
    assert program.native(tmp_path / "codex") == binary
    binary.unlink()
    assert program.native(tmp_path / "codex") == tmp_path / "codex"  # then the script has to do


def test_a_program_that_is_native_already_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "codex").touch(0o755)
    assert program.native(tmp_path / "codex") == tmp_path / "codex"


@pytest.mark.parametrize(
    ("version", "fine"), [("0.169.0", True), ("0.168.9", False), ("1.0.0", True), ("0.92.0", False)]
)
def test_only_versions_from_the_tested_one_on_are_used(version: str, fine: bool) -> None:
    assert (program.too_old(version) == "") is fine


def test_a_made_up_token_names_its_account() -> None:
    assert login._claims(token(account="a"))["https://api.openai.com/auth"]["chatgpt_account_id"] == "a"
