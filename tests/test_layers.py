"""Who may import whom: the layers of the house, read from the import statements."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import llmux

ROOT = Path(llmux.__file__).parent
LAYER = {
    "clock": 0, "config": 0, "events": 0, "failures": 0, "images": 0, "metrics": 0, "prompts": 0, "logs": 0,
    "eventstore": 1, "providers": 1, "migrations": 1, "redis": 1,
    "actors": 2,
    "http": 3,
    "cli": 4, "doctor": 4, "__main__": 4,
}  # fmt: skip
NOT_FOR = {"http": {"eventstore", "providers", "migrations", "redis"}}
ONLY_IN = {
    "quart": {"http"},
    "quart_trio": {"http"},
    "hypercorn": {"http"},
    "sqlalchemy": {"eventstore", "migrations"},
    "sqlite3": {"eventstore", "migrations"},
    "aiosqlite": {"eventstore", "migrations"},
    "alembic": {"migrations"},
    "asyncio": {"eventstore", "migrations"},
    "prometheus_client": {"metrics"},
    "coredis": {"redis"},
    "subprocess": {"providers/process.py"},
    "time": {"clock"},
    "random": {"clock"},
    "secrets": {"clock"},
}
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    """The package or module of llmux that a file belongs to."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def test_every_file_has_a_layer():
    assert {room(path) for path in FILES} - {"__init__"} == set(LAYER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_imports_upwards_or_sideways(path):
    here = room(path)
    if here == "__init__":
        assert not {name for name in imports(path) if name.startswith("llmux.")}
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "llmux" or len(parts) < 2 or parts[1] not in LAYER:
            continue
        there = parts[1]
        assert there not in NOT_FOR.get(here, set()), f"{here} must not know {there}"
        if there != here:
            assert LAYER[there] < LAYER[here] or LAYER[here] == LAYER[there] == 0 or LAYER[here] == 4, (
                f"{here} (layer {LAYER[here]}) imports {there} (layer {LAYER[there]})"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_library_has_its_room(path):
    relative = str(path.relative_to(ROOT))
    for name in imports(path):
        rooms = ONLY_IN.get(name.split(".")[0])
        assert rooms is None or room(path) in rooms or relative in rooms, f"{relative} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_a_caption(path):
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def test_nothing_is_imported_for_redis_before_it_is_asked_for():
    """coredis takes 0.2 s to import, which only those wait for who have set REDIS_URL."""
    program = "import sys, llmux.cli, llmux.http.app; sys.exit('coredis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
