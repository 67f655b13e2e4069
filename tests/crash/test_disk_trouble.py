"""A disk that is full, breaks or lies: callers hear a typed failure, nothing acknowledged is lost, and it goes on by itself.

The errors are the system calls' own. A small file system to fill up would need the right to mount one, which not everybody has who
runs these tests; so `disk.c`, compiled here and preloaded into a process of its own, answers calls on the log's files as the kernel
would. What needs no such help (a limit on the size of files) is done without.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash.troubled import CONTROL_BYTES

HERE = Path(__file__).parent
ROOMS = int(os.environ.get("LLMUX_TEST_ROOMS", "10"))
SEED = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))

Suffer = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload."""
    directory = tmp_path_factory.mktemp("disk")
    library, cache = directory / "disk.so", str(directory / "zig")
    caches = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "-nostdlib", "-D_GNU_SOURCE"]
    subprocess.run([*command, "-o", library, HERE / "disk.c"], env={**os.environ, **caches}, check=True, timeout=100)
    return library


@pytest.fixture
def suffer(tmp_path: Path, disk: Path, in_process: Callable[..., subprocess.Popen]) -> Suffer:
    """Puts logs into these troubles, in a process of their own, and returns by trouble what came of it."""

    def run(*troubles: str) -> dict[str, dict[str, Any]]:
        (tmp_path / "disk").write_bytes(bytes(CONTROL_BYTES))
        process = in_process(
            "-m", "tests.crash.troubled", str(tmp_path / "logs"), *troubles,
            env={"LD_PRELOAD": str(disk), "LLMUX_TEST_DISK": str(tmp_path / "disk")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE.parents[1],
        )  # fmt: skip
        out, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        return {result["trouble"]: result for result in map(json.loads, out.splitlines())}

    return run


def whole(result: dict[str, Any]) -> bool:
    """Nothing is wrong with the log, and it goes on."""
    nothing = result["lost"], result["undead"], result["doubled"]
    return nothing == (0, 0, 0) and result["resumed"] and result["verified"] and result["facts"]


def test_a_full_disk_is_told_loses_nothing_and_is_over_when_there_is_room(suffer: Suffer) -> None:
    chance = random.Random(SEED)
    rooms = [0, *chance.sample(range(1, 40_000), ROOMS)]
    results = suffer(*(f"write:ENOSPC:{room}" for room in rooms))
    assert len(results) == len(rooms)
    for result in results.values():
        assert whole(result), result
        assert set(result["heard"]) <= {"store_full"}, result
        assert all(isinstance(count, int) for count in result["reads"]), "a full disk keeps nobody from reading"
    assert results["write:ENOSPC:0"]["heard"]


def test_a_broken_disk_is_told_loses_nothing_and_is_over_when_it_works_again(suffer: Suffer) -> None:
    """An error of writing or syncing leaves it open what is on the disk. To SQLite one of reading is a damaged file."""
    unknown = {"outcome_unknown"}
    heard = {
        "write:EIO:0": unknown,
        "write:EIO:9000": unknown,
        "write:EDQUOT:5000": unknown,
        "limit:EFBIG:0": unknown,
        "limit:EFBIG:9000": unknown,
        "sync:EIO:0": unknown,
        "read:EIO:0": set(),
    }
    results = suffer(*heard)
    assert list(results) == list(heard)
    for trouble, result in results.items():
        assert whole(result), result
        assert set(result["heard"]) == heard[trouble], result
        if trouble.startswith("read"):
            assert set(result["reads"]) == {"log_damaged"}, result
        else:
            assert all(isinstance(count, int) for count in result["reads"]), result
