"""Where Claude Code finds its login, what its process is given, and whether it can be used. The CLI owns its credentials:
here they are only looked at (when they end, and whether the CLI can renew them), never renewed or copied."""

import hashlib
import re
from pathlib import Path

import msgspec
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.providers import programs
from llmux.providers.adapter import Place, Readiness, log_in
from llmux.providers.claude import signs

TESTED = "2.1.197"
"""The version of the CLI that LLMux is tested with, and the oldest that it trusts."""
INSTALL = f"Type: npm install -g @anthropic-ai/claude-code@{TESTED}"

LOGIN_VARIABLE = "CLAUDE_CODE_OAUTH_TOKEN"
CONFIG_DIR = "CLAUDE_CONFIG_DIR"
API_TIMEOUT = "API_TIMEOUT_MS"

QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",  # "@path" in a prompt would read the file
    "CLAUDE_CODE_MAX_RETRIES": "1",  # 0 would also switch off the renewal of the login after a 401
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",  # a cut answer would be asked for again, unseen
    "CLAUDE_CODE_DISABLE_LEGACY_MODEL_REMAP": "1",
    "CLAUDE_CODE_BLOCKING_LIMIT_OVERRIDE": "100000000",  # only the API decides what is too long
    "DISABLE_AUTOUPDATER": "1",
}


def environment(place: Place) -> dict[str, str]:
    """The whole environment of the CLI's process: constants, the login, and `settings.env` over both.

    An account with its own config directory never sees the gateway's token, which would win over its login.
    """
    patience_ms = max(120_000, place.settings.first_byte_ms_max + 10_000)  # the actor's deadline comes first
    given = {**QUIET, API_TIMEOUT: str(patience_ms), **_login(place), **place.settings.env}
    return programs.minimal_environment(place.environ, given)


def talkative_environment(place: Place) -> dict[str, str]:
    """The same for a process that shall ask its vendor for more than answers; it still reports and updates nothing."""
    env = environment(place)
    env.pop("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", None)
    return {**env, "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1"}


def api_timeout_ms(env: dict[str, str]) -> int:
    """How long the CLI itself waits for the first byte of an answer."""
    text = env.get(API_TIMEOUT, "")
    return int(text) if text.isascii() and text.isdigit() else 600_000  # the CLI's own default


def _login(place: Place) -> dict[str, str]:
    if place.account.config_dir:
        return {CONFIG_DIR: str(Path(place.account.config_dir).expanduser().absolute())}
    token, config_dir = place.environ.get(LOGIN_VARIABLE), place.environ.get(CONFIG_DIR)
    if token:  # needs no stored login, so the CLI's own files stay inside our directory
        return {LOGIN_VARIABLE: token, CONFIG_DIR: str(private_config_dir(place))}
    return {CONFIG_DIR: config_dir} if config_dir else {}


def private_config_dir(place: Place) -> Path:
    """Where a CLI that logs in with a token keeps its files."""
    return place.directory / "config"


def empty_dir(place: Place) -> Path:
    """The working directory of every process: empty, and not writable for it."""
    return place.directory / "empty"


def prepare(place: Place) -> None:
    """Makes the directories that the processes need. Raises ProviderFailure(UNAVAILABLE), for instance on a full disk."""
    for folder, mode in ((private_config_dir(place), 0o700), (empty_dir(place), 0o500)):
        try:
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            sentence = f"The directory '{folder}' cannot be made: {error.strerror}."
            raise ProviderFailure(Kind.UNAVAILABLE, sentence, evidence="claude.directory") from None


def program(place: Place) -> Path | None:
    """The CLI, or None when it is not installed."""
    return programs.find(place.settings.command, environment(place).get("PATH", ""))


# --- the probe -----------------------------------------------------------------------------------------------------


NOWHERE = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
"""For a probe: even to tell its login, the CLI opens a connection to the API in advance."""


PROBE_SHARE = 0.9
"""of the time for a probe: its actor has the same deadline, and knows less of what was not said in time"""


class _Status(msgspec.Struct):
    """What `claude auth status` prints, as far as it matters."""

    loggedIn: bool = False


class Probe:
    """Looks at the program and its login, again and again.

    The version is asked for once per program file. A look that takes too long is no news: what the one before it found still
    stands, but two in a row are believed.
    """

    def __init__(self, place: Place):
        self._place = place
        self._version: tuple[str, bytes] = ("", b"")
        self._last: Readiness | None = None

    async def look(self) -> Readiness:
        """Looks for the program, its version and its login. Asks nobody but the program; never raises."""
        place, command = self._place, self._place.settings.command
        found = program(place)
        if found is None:
            sentence = f"The program '{command}' is not installed or not on PATH. {INSTALL}"
            self._last = Readiness(False, False, sentence=sentence, login_stamp=login_stamp(environment(place)))
            return self._last
        seconds = PROBE_SHARE * place.limits.probe_ms_max / 1000
        readiness: Readiness | None = None
        with trio.move_on_after(seconds):
            try:
                readiness = await self._ask(found)
            except ProviderFailure as failure:
                readiness = self._unfit(f"'{command}' cannot be used. {failure}")
        before, self._last = self._last, readiness
        return readiness or before or self._unfit(f"'{command}' did not answer within {seconds:g} s.")

    async def _ask(self, found: Path) -> Readiness:
        prepare(self._place)
        env, cwd, limits = environment(self._place), empty_dir(self._place), self._place.limits
        match = re.match(rb"(\d+)\.(\d+)\.(\d+)\b.*Claude Code", await self._version_of(found))
        if match is None:
            return self._unfit(f"'{found}' does not answer like Claude Code. {INSTALL}")
        numbers = tuple(int(part) for part in match.groups())
        version, stamp = ".".join(map(str, numbers)), login_stamp(env)
        _, said = await programs.output_of([str(found), "auth", "status"], env=env | NOWHERE, cwd=cwd, limits=limits)
        try:
            logged_in = msgspec.json.decode(said, type=_Status).loggedIn
        except msgspec.DecodeError:
            return Readiness(True, False, version, f"'{found} auth status' cannot be understood. {INSTALL}", stamp)
        if not logged_in:
            return Readiness(True, False, version, f"Claude Code is not logged in. {_log_in(self._place)}", stamp)
        if sentence := _ended(self._place, env):
            return Readiness(True, False, version, sentence, stamp)
        return Readiness(True, True, version, _warning(numbers, env), stamp)

    async def _version_of(self, found: Path) -> bytes:
        """What the program says of its version, or has said if its file is still the same. A failure is not remembered."""
        file = _identity(found)
        if not file or self._version[0] != file:
            env, cwd = environment(self._place), empty_dir(self._place)
            status, said = await programs.output_of(
                [str(found), "--version"], env=env, cwd=cwd, limits=self._place.limits
            )
            self._version = (file if status == 0 else "", said)
        return self._version[1]

    def _unfit(self, sentence: str) -> Readiness:
        return Readiness(True, False, sentence=sentence, login_stamp=login_stamp(environment(self._place)))


def _identity(file: Path) -> str:
    """Changes when the program is replaced ("" = it cannot be told)."""
    try:
        status = file.stat()
    except OSError:
        return ""
    return f"{file}-{status.st_mtime_ns}-{status.st_size}"


def _log_in(place: Place) -> str:
    if place.account.config_dir:  # such an account never gets the token of the environment
        return f"Type: {log_in(place)}"
    return f"Type: {log_in(place)}   {signs.IN_A_CONTAINER}"


class _Login(msgspec.Struct, rename="camel"):
    expires_at: float = 0
    refresh_token: str = ""


class _Credentials(msgspec.Struct, rename="camel"):
    """The credentials file, as far as it tells when the login ends. Its access token is not read."""

    claude_ai_oauth: _Login


def ending(env: dict[str, str]) -> tuple[int | None, bool]:
    """When the stored login ends (wall time in ms; None = not told), and whether the CLI can renew it where it is."""
    file = credentials(env)
    try:
        stored = msgspec.json.decode(file.read_bytes(), type=_Credentials).claude_ai_oauth
    except (OSError, ValueError):
        return None, False
    expires_at = int(stored.expires_at) if 0 < stored.expires_at < 1e15 else None
    return expires_at, bool(stored.refresh_token) and programs.writable(file)


def _ended(place: Place, env: dict[str, str]) -> str:
    """That the login has ended for good, although the CLI takes it for one: the first prompt would only find a 401."""
    expires_at, renews = (None, True) if env.get(LOGIN_VARIABLE) else ending(env)
    if renews or expires_at is None or expires_at > place.clock.now():
        return ""
    return f"The login in {credentials(env).parent} has ended, and Claude Code cannot renew it there. {_log_in(place)}"


def _warning(numbers: tuple[int, ...], env: dict[str, str]) -> str:
    """What is wrong although the provider can be used."""
    if numbers < tuple(map(int, TESTED.split("."))):
        return f"Claude Code is older than {TESTED}, the oldest version that LLMux is tested with. {INSTALL}"
    file = credentials(env)
    if not env.get(LOGIN_VARIABLE) and file.exists() and not programs.writable(file):
        return (
            f"{file.parent} is read-only: Claude Code cannot renew its login there and will be logged out within hours. "
            f"Mount it writable, or type: claude setup-token   and set {LOGIN_VARIABLE}."
        )
    return ""


def credentials(env: dict[str, str]) -> Path:
    """The file that the CLI keeps its login in."""
    folder = env.get(CONFIG_DIR)
    return (Path(folder) if folder else Path(env.get("HOME", "/")) / ".claude") / ".credentials.json"


def login_stamp(env: dict[str, str]) -> str:
    """Changes when somebody logs in again: a hash of the token, or time and size of the credentials file ("" = neither)."""
    token = env.get(LOGIN_VARIABLE)
    if token:
        return "token-" + hashlib.sha256(token.encode()).hexdigest()[:16]
    try:
        status = credentials(env).stat()
    except OSError:
        return ""
    return f"file-{status.st_mtime_ns}-{status.st_size}"
