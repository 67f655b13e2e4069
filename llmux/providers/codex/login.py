"""The login that Codex keeps in its `auth.json`: looked at, borrowed, never changed and never refreshed by LLMux."""

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.providers.adapter import Place, log_in

LOOKS, LOOK_MS = 5, 10
"""how often, and how far apart, a file is looked at before it counts as half a file: Codex rewrites it in place"""


class Login(msgspec.Struct, frozen=True):
    """A login as it is stored.

    `stamp` changes when the file does. `api_key` tells an API key from a ChatGPT login. `lent` is true when Codex could not
    save a refreshed token (read-only directory, or the file itself is a mount): then it is only given the access token.
    `expires_at` is wall time in ms, or None when the token does not say. `owner` tells one account from another: a text made of
    the account and its user, or a digest of the API key.
    """

    path: Path
    stamp: str
    api_key: bool
    lent: bool
    access_token: str = ""
    account_id: str = ""
    owner: str = ""
    plan: str | None = None
    expires_at: int | None = None
    needed: bool = True
    """False where the models are one's own: then there is nothing to be logged in to"""

    def __repr__(self) -> str:  # never the token
        kind = "none needed" if not self.needed else "API key" if self.api_key else "ChatGPT"
        return f"<Login {self.path} {kind}{', lent' if self.lent else ''}>"

    @property
    def identity(self) -> tuple[bool, bool, str]:
        """What a server was started with and cannot change. A refreshed token has the same."""
        return self.api_key, self.lent, self.owner

    def tokens(self) -> dict[str, Any]:
        """The tokens in the words of the app-server's protocol."""
        return {
            "accessToken": self.access_token,
            "chatgptAccountId": self.account_id,
            "chatgptPlanType": self.plan,
        }


def directory(place: Place) -> Path:
    """Where the Codex of this account keeps its login: the account's own directory, $CODEX_HOME, or ~/.codex."""
    named = place.account.config_dir or place.environ.get("CODEX_HOME", "")
    return Path(named).expanduser().absolute() if named else Path(place.environ.get("HOME", "/")) / ".codex"


def stamp(place: Place) -> str:
    """A text that changes whenever the stored login does; "" when there is none."""
    if place.settings.oss:
        return ""
    try:
        state = (directory(place) / "auth.json").stat()
    except OSError:
        return ""
    return f"{state.st_mtime_ns}-{state.st_size}"


async def settled(place: Place) -> Login:
    """Reads the login as `read` does, and again for some 10 ms when what it finds may be a file that is just being written."""
    for _ in range(LOOKS - 1):
        try:
            return read(place)
        except ProviderFailure as failure:
            if failure.evidence != "codex.login.unreadable":
                raise
        await trio.sleep(LOOK_MS / 1000)
    return read(place)


def read(place: Place) -> Login:
    """Reads the login. Raises ProviderFailure(LOGGED_OUT) with a sentence that says what to type."""
    path = directory(place) / "auth.json"
    if place.settings.oss:
        return Login(path, "", api_key=True, lent=False, needed=False)
    seen = stamp(place)
    try:
        stored = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise _logged_out(f"Codex is not logged in; type: {log_in(place)}", "codex.login.absent") from None
    except (OSError, msgspec.DecodeError):
        sentence = f"The login of Codex in {path} cannot be read; type: {log_in(place)}"
        raise _logged_out(sentence, "codex.login.unreadable") from None
    tokens = stored.get("tokens") if isinstance(stored, dict) else None
    access = tokens.get("access_token") if isinstance(tokens, dict) else None
    if isinstance(tokens, dict) and isinstance(access, str) and access:
        return _chatgpt(path, seen, tokens, access)
    if isinstance(stored, dict) and (key := stored.get("OPENAI_API_KEY")):
        owner = hashlib.sha256(str(key).encode("utf-8", "replace")).hexdigest()
        return Login(path, seen, api_key=True, lent=False, owner=owner)  # a key is never refreshed
    raise _logged_out(f"Codex is not logged in; type: {log_in(place)}", "codex.login.empty")


def _chatgpt(path: Path, seen: str, tokens: dict[str, Any], access: str) -> Login:
    claims, identity = _claims(access), _claims(tokens.get("id_token"))
    ends = claims.get("exp")
    plan = _openai(identity).get("chatgpt_plan_type") or _openai(claims).get("chatgpt_plan_type")
    account = tokens.get("account_id") or _openai(identity).get("chatgpt_account_id")
    user = _openai(identity).get("chatgpt_user_id") or _openai(claims).get(
        "chatgpt_user_id"
    )  # a team shares an account
    return Login(
        path,
        seen,
        api_key=False,
        lent=not _writes_through(path),
        access_token=access,
        account_id=account if isinstance(account, str) else "",
        owner=f"{account} {user}",
        plan=plan if isinstance(plan, str) else None,
        expires_at=int(ends * 1000) if isinstance(ends, (int, float)) else None,
    )


def _claims(token: Any) -> dict[str, Any]:
    """What a JWT says about itself; {} when it is none. Its signature is not our business."""
    try:
        middle = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (AttributeError, IndexError, ValueError, msgspec.DecodeError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _openai(claims: dict[str, Any]) -> dict[str, Any]:
    found = claims.get("https://api.openai.com/auth")
    return found if isinstance(found, dict) else {}


def _writes_through(path: Path) -> bool:
    """Whether Codex can replace this file: its directory takes new files, and the file is no mount of its own."""
    real = path.resolve()
    return os.access(real.parent, os.W_OK) and not _is_mounted(real)


def _is_mounted(path: Path) -> bool:
    """Whether exactly this file was mounted into place; os.path.ismount cannot tell that for a file of the same disk."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:  # no Linux
        return False
    name = str(path).replace(" ", "\\040")
    return any(line.split(" ", 5)[4:5] == [name] for line in mounts.splitlines())


def _logged_out(sentence: str, evidence: str) -> ProviderFailure:
    return ProviderFailure(Kind.LOGGED_OUT, sentence, evidence=evidence)
