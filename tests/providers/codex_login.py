"""Made-up logins of Codex, for tests."""

import base64
import json
import time
from pathlib import Path
from typing import Any


def jwt(claims: dict[str, Any]) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


def token(*, account: str = "account-1", expires_in: int = 864_000, mark: str = "") -> str:
    """A token that says of itself what OpenAI's do; `mark` makes it another one."""
    now = int(time.time())
    about = {
        "chatgpt_plan_type": "plus",
        "chatgpt_account_id": account,
        "chatgpt_user_id": "user-1",
        "user_id": "user-1",
    }
    claims = {"exp": now + expires_in, "iat": now, "mark": mark, "https://api.openai.com/auth": about}
    return jwt({"email": "somebody@example.com", **claims})


def write_login(directory: Path, *, account: str = "account-1", expires_in: int = 864_000, mark: str = "") -> str:
    """Writes a ChatGPT login into `directory`/auth.json and returns its access token."""
    access = token(account=account, expires_in=expires_in, mark=mark)
    tokens = {
        "id_token": access,
        "access_token": access,
        "refresh_token": "refresh-1",
        "account_id": account,
    }
    stored = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": "2026-11-20T10:00:00Z"}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "auth.json").write_text(json.dumps(stored))
    return access
