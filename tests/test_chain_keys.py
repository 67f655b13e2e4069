"""Where the chain's keys come from, and which are refused. No sentence repeats one."""

import os
from pathlib import Path

import pytest

from llmux.config import load
from llmux.failures import ConfigurationWrong

KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d"
EARLIER = "f0e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3"


def read(home: Path, toml: str = "", **environ: str):
    (home / "llmux.toml").write_text(toml)
    return load({"HOME": str(home), "LLMUX_CONFIG": str(home / "llmux.toml"), **environ})


def refusal(home: Path, toml: str = "", **environ: str) -> str:
    with pytest.raises(ConfigurationWrong) as refused:
        read(home, toml, **environ)
    assert KEY not in str(refused.value)
    return str(refused.value)


def key_file(home: Path, content: str | bytes, mode: int = 0o600) -> str:
    path = home / "chain.key"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return str(path)


def test_without_one_there_is_none(tmp_path: Path) -> None:
    assert read(tmp_path).chain_keys == ()
    assert read(tmp_path, LLMUX_CHAIN_KEY="").chain_keys == ()


def test_a_key_comes_from_the_environment_or_a_file_and_earlier_ones_stand_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(tmp_path, LLMUX_CHAIN_KEY=KEY).chain_keys == (KEY,)
    assert read(tmp_path, LLMUX_CHAIN_KEY=f" {EARLIER} {KEY}\n").chain_keys == (EARLIER, KEY)
    file = key_file(tmp_path, f"{EARLIER}\n\n{KEY}\n")
    assert read(tmp_path, LLMUX_CHAIN_KEY_FILE=file).chain_keys == (EARLIER, KEY)
    assert read(tmp_path, f'[log]\nchain_key_file = "{file}"').chain_keys == (EARLIER, KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(tmp_path, LLMUX_CHAIN_KEY_FILE="~/chain.key").chain_keys == (EARLIER, KEY)


@pytest.mark.parametrize("weak", ["short", KEY[:31], "a" * 64, "0123456789abcdef 0123456789abcdef", f"{KEY} short"])
def test_a_weak_key_is_refused(tmp_path: Path, weak: str) -> None:
    assert "LLMUX_CHAIN_KEY holds a key that is too weak" in refusal(tmp_path, LLMUX_CHAIN_KEY=weak)
    assert "openssl rand -hex 32" in refusal(tmp_path, LLMUX_CHAIN_KEY_FILE=key_file(tmp_path, weak))


def test_a_key_is_used_once_and_for_nothing_else(tmp_path: Path) -> None:
    assert "the same key twice" in refusal(tmp_path, LLMUX_CHAIN_KEY=f"{KEY} {KEY}")
    for other in ("API_KEY", "ADMIN_KEY", "LLMUX_SECRET"):
        assert "a key of its own" in refusal(tmp_path, LLMUX_CHAIN_KEY=KEY, **{other: KEY})
    both = refusal(tmp_path, LLMUX_CHAIN_KEY=KEY, LLMUX_CHAIN_KEY_FILE=key_file(tmp_path, KEY))
    assert "set only one of them" in both


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620, 0o602])
def test_a_key_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path, KEY, mode)
    assert f"chmod 600 {file}" in refusal(tmp_path, LLMUX_CHAIN_KEY_FILE=file)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_a_key_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    assert "holds no key" in refusal(tmp_path, LLMUX_CHAIN_KEY_FILE=key_file(tmp_path, content))


@pytest.mark.parametrize("place", ["missing", "folder", "pipe", "binary", "huge"])
def test_a_file_that_is_none_is_a_sentence_and_holds_nothing_up(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    if place == "folder":
        path.mkdir()
    elif place == "pipe":
        os.mkfifo(path, 0o600)
    elif place in ("binary", "huge"):
        path.write_bytes(b"\xff\xfe" if place == "binary" else KEY.encode() * 10_000)
        path.chmod(0o600)
    assert f"The file of the chain key, {path}," in refusal(tmp_path, LLMUX_CHAIN_KEY_FILE=str(path))


def test_a_key_is_not_for_the_file_that_everybody_copies(tmp_path: Path) -> None:
    assert "means nothing here" in refusal(tmp_path, f'[log]\nchain_key = "{KEY}"')


def test_where_the_witness_is_and_how_much_the_log_may_take(tmp_path: Path) -> None:
    settings = read(tmp_path, LLMUX_DATA_DIR=str(tmp_path / "data"))
    assert (settings.witness, settings.log_bytes_max) == (tmp_path / "data" / "witness.json", 8 * 1024**3)
    toml = f'[log]\nwitness_file = "{tmp_path}/w.json"\nbytes_max = 5000'
    assert (read(tmp_path, toml).witness, read(tmp_path, toml).log_bytes_max) == (tmp_path / "w.json", 5000)
    assert read(tmp_path, toml, LLMUX_LOG_BYTES_MAX="0").log_bytes_max == 0
    assert "LLMUX_LOG_BYTES_MAX" in refusal(tmp_path, "[log]\nbytes_max = -1")
