"""Live facts, replayed facts, and a stored state with the rest folded on are the same, in every process."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from llmux.events import TYPES
from tests.crash.histories import history

HISTORIES = int(os.environ.get("LLMUX_TEST_HISTORIES", "2000"))
SEED = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))
WAIT_S_MAX = 90 + HISTORIES / 20
HASH_SEEDS = ("1", "4242")
ROOT = Path(__file__).parents[2]


def test_replay_is_truth(tmp_path: Path, in_process: Callable[..., subprocess.Popen]) -> None:
    """Each history goes through a real log in one process and is folded in another one, which hashes text otherwise."""
    processes = []
    for part, hash_seed in enumerate(HASH_SEEDS):
        (tmp_path / hash_seed).mkdir()
        arguments = str(tmp_path / hash_seed), str(SEED), str(HISTORIES), str(len(HASH_SEEDS)), str(part)
        with (tmp_path / f"{hash_seed}.out").open("w") as out, (tmp_path / f"{hash_seed}.err").open("w") as errors:
            options = {"env": {"PYTHONHASHSEED": hash_seed}, "stdout": out, "stderr": errors, "cwd": ROOT}
            processes.append(in_process("-m", "tests.crash.refolding", *arguments, **options))
    for process, hash_seed in zip(processes, HASH_SEEDS, strict=True):
        assert process.wait(WAIT_S_MAX) == 0, (tmp_path / f"{hash_seed}.err").read_text()
    one, other = ((tmp_path / f"{hash_seed}.out").read_text().splitlines() for hash_seed in HASH_SEEDS)
    assert len(one) == len(other) == HISTORIES
    different = [SEED + n for n, (left, right) in enumerate(zip(one, other, strict=True)) if left != right]
    assert not different, f"the histories of these seeds depend on how text is hashed: {different}"
    assert len(set(one)) > 0.9 * HISTORIES, "the histories are different ones"


def test_these_histories_hold_every_type_of_event() -> None:
    assert {type(event.fact) for seed in range(200) for event in history(seed)} == set(TYPES.values())
