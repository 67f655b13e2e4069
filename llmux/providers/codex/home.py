"""The CODEX_HOME that LLMux makes for its own Codex: a pure chat model without tools, files, memory, telemetry or retries.

DIRECTORY/home/config.toml     what this module says
DIRECTORY/home/catalog.json    the configured models, with a context window that never triggers Codex's own compaction
DIRECTORY/home/auth.json       a link to the account's login, so that a refreshed token is saved where it belongs; none for `oss`
DIRECTORY/user                 HOME of the process
DIRECTORY/empty                its working directory, in which nothing can be made
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmux.config import ProviderSettings
from llmux.providers.adapter import Place
from llmux.providers.codex.login import Login
from llmux.providers.process import minimal_environment

CHATGPT_URL = "https://chatgpt.com/backend-api/codex"
API_URL = "https://api.openai.com/v1"
STREAM_IDLE_MS = 600_000  # only a last resort: whoever asks has its own, shorter deadline
UNLIMITED = 100_000_000

_OFF = (
    "shell_tool",
    "unified_exec",
    "shell_snapshot",
    "view_image",
    "image_generation",
    "apps",
    "plugins",
    "remote_plugin",
    "goals",
    "sleep_tool",
    "code_mode_host",
    "browser_use",
    "browser_use_external",
    "computer_use",
    "in_app_browser",
    "hooks",
    "tool_suggest",
    "skill_search",
    "memories",
    "skill_mcp_dependency_install",
    "workspace_dependencies",
    "enable_request_compression",
    "unbounded_connection_retries",  # waits for the network for ever
)


def paths(place: Place) -> tuple[Path, Path]:
    """CODEX_HOME and the empty working directory."""
    return place.directory / "home", place.directory / "empty"


def environment(place: Place) -> dict[str, str]:
    """All that the process gets."""
    own = {"CODEX_HOME": str(paths(place)[0]), "HOME": str(_user(place))}
    return minimal_environment(place.environ, {**own, **place.settings.env})


def clear(place: Place) -> None:
    """Makes all directories anew: what an earlier run left in them (state, logs) is gone. Raises OSError."""
    home, empty = paths(place)
    for directory in (home, empty, _user(place)):
        shutil.rmtree(directory, ignore_errors=True)
    make(place)


def make(place: Place) -> None:
    """Makes the directories that are missing. Raises OSError."""
    home, empty = paths(place)
    for directory in (place.directory, home, empty, _user(place)):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    empty.chmod(0o500)


def write(place: Place, login: Login) -> None:
    """Writes the files of CODEX_HOME for this login. Raises OSError."""
    home, _ = paths(place)
    catalog = home / "catalog.json"
    _replace(catalog, json.dumps({"models": [_entry(slug) for slug in slugs(place.settings)]}, indent=1))
    _replace(home / "config.toml", _toml(_config(place.settings, login, catalog)))
    link, new = home / "auth.json", home / "auth.json.new"
    new.unlink(missing_ok=True)
    if (
        login.lent or not login.needed
    ):  # Codex must not even know the file: it would redeem a refresh token that it cannot save
        link.unlink(missing_ok=True)
    else:
        new.symlink_to(login.path)
        os.replace(new, link)


def _user(place: Place) -> Path:
    return place.directory / "user"


def slugs(settings: ProviderSettings) -> tuple[str, ...]:
    """The configured models by the names that Codex is told, each once."""
    models = (settings.default_model, *settings.models)
    return tuple(dict.fromkeys(settings.upstream.get(model, model) for model in models if model))


def side_url(settings: ProviderSettings) -> str:
    """Where the vendor tells the state of a plan's quota, beside the model: "" where the upstream is no ChatGPT back end."""
    url = (settings.base_url or CHATGPT_URL).rstrip("/")
    return url.removesuffix("/codex") if url.endswith("/backend-api/codex") else ""


def _config(settings: ProviderSettings, login: Login, catalog: Path) -> dict[str, Any]:
    no = {"enabled": False}
    # Codex looks at the account and its settings beside the model: where the model is, and never anywhere else
    beside = side_url(settings) or settings.base_url
    return {
        "chatgpt_base_url": beside,
        "model": slugs(settings)[0],
        "model_provider": "llmux",
        "model_catalog_json": str(catalog),
        # an API key's organisation may not be verified for summaries, and would get a 400
        "model_reasoning_summary": "none" if login.api_key else "auto",
        "approval_policy": "never",
        "sandbox_mode": "read-only",
        "web_search": "disabled",
        "include_permissions_instructions": False,
        "include_environment_context": False,
        "include_apps_instructions": False,
        "include_collaboration_mode_instructions": False,
        "project_doc_max_bytes": 0,
        "project_root_markers": [],
        "check_for_update_on_startup": False,
        "suppress_unstable_features_warning": True,
        "allow_login_shell": False,
        "cli_auth_credentials_store": "file",
        "thread_unload_delay_secs": 0,  # frees a thread when it is unsubscribed; else memory only grows
        "analytics": no,
        "feedback": no,
        "history": {"persistence": "none"},
        "skills": {"include_instructions": False, "bundled": no},
        "tools": {"update_plan": no, "experimental_request_user_input": no},
        "agents": no,
        "features": dict.fromkeys(_OFF, False),
        # a provider of our own: over plain HTTPS and SSE, without the built-in one's WebSocket and side calls
        "model_providers": {
            "llmux": {
                "name": "llmux",
                "base_url": settings.base_url or (API_URL if login.api_key else CHATGPT_URL),
                "wire_api": "responses",
                "requires_openai_auth": login.needed,
                "supports_websockets": False,
                "request_max_retries": 0,  # LLMux retries itself; a retry in mid-stream would repeat the text
                "stream_max_retries": 0,
                "stream_idle_timeout_ms": STREAM_IDLE_MS,
            }
        },
    }


def _entry(slug: str) -> dict[str, Any]:
    """A model without tools whose history is never cut or summarised."""
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh")
    return {
        "slug": slug,
        "display_name": slug,
        "description": slug,
        "default_reasoning_level": "medium",
        "supported_reasoning_levels": [{"effort": effort, "description": effort} for effort in efforts],
        "default_reasoning_summary": "none",
        "support_verbosity": False,
        "default_verbosity": None,
        "context_window": UNLIMITED,
        "max_context_window": UNLIMITED,
        "effective_context_window_percent": 95,
        "truncation_policy": {"mode": "bytes", "limit": UNLIMITED},
        "input_modalities": ["text", "image"],
        "supports_image_detail_original": False,
        "base_instructions": "",
        "shell_type": "disabled",
        "apply_patch_tool_type": None,
        "web_search_tool_type": "text_and_image",
        "experimental_supported_tools": [],
        "supports_search_tool": False,
        "include_skills_usage_instructions": False,
        "include_plugin_usage_instructions": False,
        "include_apps_usage_instructions": False,
        "multi_agent_version": None,
        "tool_mode": None,
        "use_responses_lite": False,
        "supports_experimental_context": False,
        "supports_reasoning_effort_updates": False,
        "node_repl_auto_review_required": False,
        "node_repl_disabled": True,
        "supported_in_api": True,
        "visibility": "list",
        "priority": 1,
        "additional_speed_tiers": [],
        "service_tiers": [],
        "availability_nux": None,
        "upgrade": None,
    }


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, "utf-8")
    os.replace(new, path)


def _toml(table: Mapping[str, Any], name: str = "") -> str:
    """TOML of nested tables with plain values: a JSON value is written the same way in TOML."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{name}]"] if name and plain else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    inner = [_toml(value, f"{name}.{key}" if name else key) for key, value in table.items() if isinstance(value, dict)]
    return "\n".join([*lines, *inner]) + ("\n" if not name else "")
