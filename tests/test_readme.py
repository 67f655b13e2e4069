"""What README tells a newcomer to type works, as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

from llmux.cli import main
from llmux.config import ENVIRONMENT
from tests.cli.typed import golden_log, typed
from tests.gateway import GatewayProcess, gateway_process
from tests.golden.logs import LOGS

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text("utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]
READERS = [line for line in LINES if re.search(r"/llmux (events|usage|replay|verify)\b", line)]
CURLS = [line for line in LINES if line.startswith("curl ")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory):
    with gateway_process(tmp_path_factory.mktemp("home"), "demo") as gateway:
        yield gateway


def test_there_are_commands_to_test():
    assert len(CURLS) >= 6
    assert len(READERS) >= 6


@pytest.mark.parametrize("command", CURLS)
def test_every_curl_of_the_readme_answers(demo: GatewayProcess, command: str):
    words = shlex.split(command, comments=True)
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    bodies = [words[at + 1] for at, word in enumerate(words) if word == "-d"]
    (url,) = [word for word in words if word.startswith("http://127.0.0.1:8765")]
    method, body = ("POST", bodies[0].encode()) if bodies else ("GET", None)
    reply = demo.call(method, url.removeprefix("http://127.0.0.1:8765"), body, headers)
    assert reply.status == 200, reply
    assert b"demo" in reply.body


def test_every_make_target_of_the_readme_exists():
    for target in set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_every_llmux_command_of_the_readme_exists():
    for command in set(re.findall(r"llmux ([a-z]+)\b", "\n".join(LINES))):
        if command not in ("claude",):  # `docker compose exec llmux claude` runs another program
            assert command in main.commands, command


@pytest.mark.parametrize("command", READERS)
def test_every_command_that_reads_the_log_reads_one(tmp_path: Path, command: str):
    _, *words = shlex.split(command, comments=True)
    result = typed(golden_log(tmp_path, LOGS[-1]), *words)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_every_variable_is_in_the_readme():
    for name in (*ENVIRONMENT, "OLLAMA_HOST", "LLMUX_DATA_DIR", "LLMUX_CONFIG"):
        assert f"`{name}`" in README, name


def test_every_command_is_in_the_readme():
    for command in main.commands:
        assert re.search(rf"(llmux|make) {command}\b", README) or command == "serve", command
