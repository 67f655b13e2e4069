"""One process owns a data directory."""

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from llmux.eventstore import is_owned, lock, own_directory
from llmux.failures import ConfigurationWrong, DirectoryInUse

OWNER = """
import sys
from pathlib import Path
from llmux.eventstore import own_directory
from llmux.failures import DirectoryInUse
try:
    with own_directory(Path(sys.argv[1])):
        print("owned", flush=True)
        sys.stdin.read()
except DirectoryInUse as error:
    print(error, flush=True)
"""

Start = Callable[..., subprocess.Popen]


def owner(in_process: Start, directory: Path) -> subprocess.Popen:
    root = str(Path(__file__).parents[2])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
    return in_process("-c", OWNER, str(directory), **pipes)


def test_a_second_process_is_refused_and_told_who_owns_the_directory(tmp_path: Path, in_process: Start) -> None:
    directory = tmp_path / "data"
    first = owner(in_process, directory)
    assert first.stdout.readline() == "owned\n"
    with pytest.raises(DirectoryInUse, match=f"in use by process {first.pid}"), own_directory(directory):
        pass
    second = owner(in_process, directory)
    assert f"in use by process {first.pid}" in second.stdout.readline()
    first.stdin.close()
    first.wait(10)
    with own_directory(directory):
        pass


def test_a_killed_owner_leaves_nothing_behind(tmp_path: Path, in_process: Start) -> None:
    first = owner(in_process, tmp_path)
    assert first.stdout.readline() == "owned\n"
    first.kill()
    first.wait(10)
    with own_directory(tmp_path):
        pass


def test_the_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "yet" / "there"
    with own_directory(directory) as owned:
        assert owned == directory
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "lock").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with own_directory(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_directory_can_be_owned_again_and_again(tmp_path: Path) -> None:
    for _ in range(3):
        with own_directory(tmp_path), pytest.raises(DirectoryInUse), own_directory(tmp_path):
            pass


@pytest.mark.parametrize("place", ["file/data", "file"])
def test_a_place_where_no_directory_can_be_is_a_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationWrong, match="Set LLMUX_DATA_DIR"), own_directory(tmp_path / place):
        pass


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="a place where not even root can write is known on Linux only"
)
def test_a_read_only_parent_is_a_sentence() -> None:
    with pytest.raises(ConfigurationWrong, match="cannot be used"), own_directory(Path("/proc/self/llmux")):
        pass


def test_who_only_asks_for_an_owner_is_in_nobodys_way(tmp_path: Path, in_process: Start) -> None:
    """Also beside another that asks, and after an owner that was killed with its number in the file."""
    directory = tmp_path / "data"
    assert not is_owned(directory)
    assert not directory.exists()
    first = owner(in_process, directory)
    assert first.stdout.readline() == "owned\n"
    assert is_owned(directory)
    assert is_owned(directory)
    with pytest.raises(DirectoryInUse, match=f"in use by process {first.pid}"), own_directory(directory):
        pass
    first.kill()
    first.wait(10)
    assert (directory / "lock").read_text() == f"{first.pid}\n"
    with (directory / "lock").open() as another:
        fcntl.flock(another, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not is_owned(directory)
    with own_directory(directory):
        assert is_owned(directory)
    assert not is_owned(directory)


def test_asking_for_an_owner_leaves_an_unowned_lock_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that starts at that very moment must not be told that the directory is in use."""
    with own_directory(tmp_path):
        pass
    asked: list[int] = []
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, how: asked.append(how))
    assert not is_owned(tmp_path)
    assert asked == []


def test_whoever_asks_for_an_owner_does_not_make_a_start_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed gateway leaves its number; who asks then holds the lock for a moment, which the next owner waits for."""
    (tmp_path / "lock").write_text("999999\n")
    asking = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    waits = []

    class Let:
        def wait(self, seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                fcntl.flock(asking, fcntl.LOCK_UN)

    monkeypatch.setattr(lock.threading, "Event", Let)
    with own_directory(tmp_path):
        assert len(waits) == 3
    os.close(asking)
