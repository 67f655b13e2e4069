"""`llmux login` and what `llmux doctor` says of logins, over programs that only note how they were started, and over the real CLIs."""

import base64
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmux.cli import main
from llmux.clock import SystemClock
from llmux.config import Account
from llmux.providers import process
from llmux.providers.claude import login as claude
from llmux.providers.codex import program as codex
from llmux.providers.gemini import program as gemini
from llmux.providers.logins import newer_than_tested, sign_in, stored
from tests import clis
from tests.providers.hearing import place_of

NOW = SystemClock().now()

PROGRAM = f"""#!{sys.executable} -IS
import json, os, sys, pathlib
if sys.argv[1:] == ["--version"]:
    print(os.environ.get("SAYS_VERSION") or pathlib.Path(__file__).with_suffix(".version").read_text())
elif sys.argv[1:] == ["auth", "status"]:
    folder = os.environ.get("CLAUDE_CONFIG_DIR") or os.environ["HOME"] + "/.claude"
    print(json.dumps({{"loggedIn": os.path.exists(folder + "/.credentials.json")}}))
else:
    note = {{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}
    pathlib.Path(__file__).with_suffix(".note").write_text(json.dumps(note))
    name = pathlib.Path(__file__).name
    if "--fail" in sys.argv:
        sys.exit(3)
    if name == "claude":
        folder, file = os.environ.get("CLAUDE_CONFIG_DIR") or os.environ["HOME"] + "/.claude", ".credentials.json"
        text = {{"claudeAiOauth": {{"accessToken": "t", "refreshToken": "r", "expiresAt": 1}}}}
    elif name == "codex":
        folder, file = os.environ["CODEX_HOME"], "auth.json"
        text = {{"tokens": {{"access_token": "a.b.c"}}}}
    else:
        folder, file = os.environ["GEMINI_CLI_HOME"] + "/.gemini", "oauth_creds.json"
        text = {{"refresh_token": "r", "expiry_date": 1}}
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/" + file, "w") as stored:
        stored.write(json.dumps(text))
"""
VERSIONS = {"claude": f"{claude.TESTED} (Claude Code)", "codex": f"codex-cli {codex.TESTED}", "gemini": gemini.TESTED}
LOGIN_FILES = {"claude": ".claude/.credentials.json", "codex": ".codex/auth.json", "gemini": ".gemini/oauth_creds.json"}


class Machine:
    """A home, and a PATH with programs that stand in for the vendors'."""

    def __init__(self, directory: Path):
        self.home, self.bin = directory / "home", directory / "bin"
        self.home.mkdir()
        self.bin.mkdir()
        self.config = self.home / "llmux.toml"
        self.config.write_text("[providers.ollama]\nenabled = false\n")

    def install(self, *names: str) -> None:
        for name in names:
            (self.bin / name).write_text(PROGRAM)
            (self.bin / name).chmod(0o755)
            (self.bin / f"{name}.version").write_text(VERSIONS[name])

    def type(self, *words: str, **environ: str) -> Result:
        own = {
            name: None for name in os.environ if name.startswith(("LLMUX_", "CODEX", "CLAUDE", "GEMINI", "ANTHROPIC"))
        }
        told = {"HOME": str(self.home), "PATH": str(self.bin), "LLMUX_CONFIG": str(self.config), "COLUMNS": "200"}
        return CliRunner().invoke(main, words, env={**own, **told, **environ}, catch_exceptions=False)

    def note(self, name: str) -> dict[str, Any]:
        """How the program was started."""
        return dict(json.loads((self.bin / f"{name}.note").read_text()))

    def doctor(self, **environ: str) -> dict[str, Any]:
        return {
            entry["provider"]: entry
            for entry in json.loads(self.type("doctor", "--json", **environ).stdout)["providers"]
        }


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(("name", "words"), [("claude", ["auth", "login"]), ("codex", ["login"]), ("gemini", [])])
def test_login_runs_the_vendors_own_and_the_login_stands_where_the_gateway_looks(
    machine: Machine, name: str, words: list[str]
) -> None:
    machine.install(name)
    done = machine.type(
        "login", name, DISPLAY=":7", API_KEY="b7c1e0d94f3a4c55", ANTHROPIC_API_KEY="k", OPENAI_API_KEY="k"
    )
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    assert f"{name} is logged in" in done.stderr
    note = machine.note(name)
    assert note["argv"] == words
    assert (note["env"]["HOME"], note["env"]["DISPLAY"]) == (str(machine.home), ":7")
    assert not {"API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"} & set(note["env"])
    assert (machine.home / LOGIN_FILES[name]).is_file()
    assert not Path(
        note["cwd"]
    ).exists()  # an empty directory of its own, gone with all that was written beside the login


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_an_account_has_its_own_place_for_its_login(machine: Machine, name: str) -> None:
    machine.install(name)
    work = machine.home / "at work" / "login"
    accounts = f'[[providers.{name}.accounts]]\nname = "private"\n[[providers.{name}.accounts]]\nname = "work"\n'
    machine.config.write_text(f'{accounts}config_dir = "{work}"\n')
    which = machine.type("login", name)
    assert which.exit_code == 2
    assert "--account NAME with one of: private, work" in which.stderr
    assert machine.type("login", name, "--account", "work").exit_code == 0
    assert [path.name for path in work.iterdir()] == [Path(LOGIN_FILES[name]).name]
    assert not (machine.home / LOGIN_FILES[name]).exists()
    nobody = machine.type("login", name, "--account", "nobody")
    assert (nobody.exit_code, "no account 'nobody'" in nobody.stderr) == (2, True)


def test_further_words_go_to_the_program(machine: Machine) -> None:
    machine.install("codex")
    assert machine.type("login", "codex", "--", "--device-auth").exit_code == 0
    assert machine.note("codex")["argv"] == ["login", "--device-auth"]


@pytest.mark.parametrize(
    ("name", "advice"), [("claude", claude.INSTALL), ("codex", codex.INSTALL), ("gemini", gemini.INSTALL)]
)
def test_without_the_program_login_says_what_to_type(machine: Machine, name: str, advice: str) -> None:
    done = machine.type("login", name)
    assert done.exit_code == 1
    assert advice in done.stderr


@pytest.mark.parametrize(
    ("name", "said"), [("ollama", "needs no login"), ("mistral", "There is no provider 'mistral'")]
)
def test_what_nobody_can_log_in_to_is_refused(machine: Machine, name: str, said: str) -> None:
    done = machine.type("login", name)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_key_in_the_settings_is_no_login(machine: Machine) -> None:
    machine.install("gemini")
    machine.config.write_text('[providers.gemini.env]\nGEMINI_API_KEY = "k"\n')
    done = machine.type("login", "gemini")
    assert done.exit_code == 2
    assert "nothing to log in to" in done.stderr


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_a_login_that_was_given_up_is_none(machine: Machine, name: str) -> None:
    machine.install(name)
    done = machine.type("login", name, "--", "--fail")
    assert done.exit_code == 1
    assert f"{name} is not logged in. " in done.stderr
    machine.type("login", name)
    again = machine.type("login", name, "--", "--fail")
    assert again.exit_code == 1
    assert "ended with 3; the login that was there still is" in again.stderr


def test_what_is_typed_reaches_the_program(tmp_path: Path) -> None:
    """With a real terminal: a pseudo-terminal is what the person sits at."""
    script = "import sys; from llmux.providers.process import in_terminal; from pathlib import Path\n"
    script += (
        "status = in_terminal([sys.executable, '-c', 'import sys; print(sys.stdin.isatty(), input()); sys.exit(5)'], "
    )
    script += "env={}, cwd=Path('/')); print('ended with', status)"
    terminal, inside = pty.openpty()
    started = subprocess.Popen([sys.executable, "-c", script], stdin=inside, stdout=inside, stderr=inside)
    try:
        os.write(terminal, b"the code\n")
        said = b""
        while b"ended with" not in said or not said.endswith(b"\n"):
            said += os.read(terminal, 4096)
        assert b"True the code" in said
        assert b"ended with 5" in said
    finally:
        started.wait(20)
        os.close(terminal)
        os.close(inside)


# --- the doctor ------------------------------------------------------------------------------------------------------


def test_doctor_tells_until_when_a_login_holds_and_no_token(machine: Machine) -> None:
    machine.install("claude", "codex", "gemini")
    ends = NOW + 3_600_000
    middle = base64.urlsafe_b64encode(json.dumps({"exp": ends // 1000}).encode()).decode().rstrip("=")
    logins = {
        "claude": {"claudeAiOauth": {"accessToken": "canary", "refreshToken": "canary", "expiresAt": ends}},
        "codex": {"tokens": {"access_token": f"canary.{middle}.canary", "refresh_token": "canary"}},
        "gemini": {"access_token": "canary", "refresh_token": "canary", "expiry_date": ends},
    }
    for name, login in logins.items():
        file = machine.home / LOGIN_FILES[name]
        file.parent.mkdir()
        file.write_text(json.dumps(login))
    found = machine.doctor()
    for name in logins:
        assert abs(found[name]["login_expires_at"] - ends) < 1000
        assert (found[name]["login_renews"], found[name]["logged_in"], found[name]["sentence"]) == (True, True, "")
    for done in (machine.type("doctor"), machine.type("doctor", "--json")):
        assert "canary" not in done.output
    assert machine.type("doctor").stdout.count("renewed by itself") == 3


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_doctor_says_which_account_is_logged_out_and_what_to_type_for_it(machine: Machine, name: str) -> None:
    machine.install(name)
    accounts = f'[[providers.{name}.accounts]]\nname = "private"\n[[providers.{name}.accounts]]\nname = "work"\n'
    machine.config.write_text(f'{accounts}config_dir = "{machine.home / "work"}"\n')
    said = machine.type("doctor").stdout
    for account in ("private", "work"):
        [line] = [line for line in said.splitlines() if line.startswith(f"{name} ({account}): ")]
        assert f"llmux login {name} --account {account}" in line


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_doctor_tells_a_version_beyond_the_tested_one(machine: Machine, name: str) -> None:
    machine.install(name)
    machine.type("login", name)
    tested = {"claude": claude.TESTED, "codex": codex.TESTED}[name]
    newer = f"{int(tested.split('.')[0]) + 1}.0.0"
    (machine.bin / f"{name}.version").write_text(VERSIONS[name].replace(tested, newer))
    [note] = [note for note in machine.doctor()[name]["notes"] if note.startswith("Version ")]
    assert note.startswith(f"Version {newer} is newer than {tested}")
    assert note in machine.type("doctor").stdout
    (machine.bin / f"{name}.version").write_text(VERSIONS[name].replace(tested, "0.0.1"))
    entry = machine.doctor()[name]
    assert f"older than {tested}" in entry["sentence"]
    assert not any("newer" in note for note in entry["notes"])


@pytest.mark.parametrize(
    ("version", "newer"),
    [("0.61.0", False), ("0.61.1", True), ("0.62.0-nightly.1", True), ("0.60.9", False), ("", False)],
)
def test_versions_are_compared_number_by_number(version: str, newer: bool) -> None:
    assert bool(newer_than_tested("gemini", version)) is newer
    assert bool(gemini.older_than_tested(version)) is (version == "0.60.9")


def test_doctor_tells_what_follows_from_a_login_that_cannot_be_written(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.install("claude", "codex", "gemini")
    for name in ("claude", "codex", "gemini"):
        machine.type("login", name)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everywhere
    found = machine.doctor()
    assert "has ended, and Claude Code cannot renew it there" in found["claude"]["sentence"], "it ended in 1970"
    assert "cannot be written here" in found["codex"]["sentence"]
    assert "renews its own copy" in found["gemini"]["sentence"]
    assert [found[name]["login_renews"] for name in ("claude", "codex", "gemini")] == [False, False, True]
    assert [found[name]["logged_in"] for name in ("claude", "codex", "gemini")] == [False, True, True]


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "{}", '{"claudeAiOauth": 5}', '{"claudeAiOauth": {"expiresAt": "x"}}']
)
def test_a_login_that_says_nothing_of_its_end_is_no_trouble(tmp_path: Path, text: str) -> None:
    place = place_of("claude", tmp_path)
    file = Path(place.environ["HOME"]) / LOGIN_FILES["claude"]
    file.parent.mkdir()
    file.write_text(text)
    known = stored(place)
    assert known is None or known.expires_at is None


# --- the real programs -----------------------------------------------------------------------------------------------


def test_the_real_gemini_cli_asks_for_the_login_at_once_and_stores_it_in_the_accounts_folder(tmp_path: Path) -> None:
    """No question about trust, themes or kinds of login comes first: the address to open is the first that it says."""
    account = Account(name="work", config_dir=str(tmp_path / "work"))
    path = f"{clis.node().parent}{os.pathsep}{os.environ['PATH']}"
    place = place_of("gemini", tmp_path, environ={"PATH": path, "TERM": "xterm", "HTTPS_PROXY": "http://127.0.0.1:9"},
                     account=account, command=str(clis.gemini()))  # fmt: skip
    prepared = sign_in(place)
    link = Path(prepared.env["GEMINI_CLI_HOME"]) / ".gemini" / "oauth_creds.json"
    assert link.readlink() == tmp_path / "work" / "oauth_creds.json"
    terminal, inside = pty.openpty()
    started = subprocess.Popen(
        prepared.argv,
        env=prepared.env,
        cwd=prepared.cwd,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    try:
        said = b""
        while b"authorization code:" not in said:
            said += os.read(terminal, 65_536)
        assert b"https://accounts.google.com/o/oauth2/" in said
    finally:
        process.signal_group(started.pid, signal.SIGKILL)
        started.wait()
        os.close(terminal)
        os.close(inside)


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_the_real_programs_know_the_command_that_login_runs(name: str, tmp_path: Path) -> None:
    program = {"claude": clis.claude, "codex": clis.codex}[name]()
    place = place_of(
        name, tmp_path, environ={"PATH": f"{clis.node().parent}{os.pathsep}{os.environ['PATH']}"}, command=program
    )
    prepared = sign_in(place)
    done = subprocess.run(
        [*prepared.argv, "--help"], env=prepared.env, cwd=prepared.cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert ("device-auth" if name == "codex" else "login") in done.stdout
