"""The settings that make a pure chat model of the Gemini CLI: no tools, no files, no memory, no telemetry, no updates. Pure."""

import json
from collections.abc import Mapping
from typing import Any

DENY_ALL = '[[rule]]\ntoolName = "*"\ndecision = "deny"\npriority = 999\n'
"""an admin policy under which no tool runs"""

_PRO = ("gemini-3.1-pro-preview", "gemini-3.1-pro-preview-customtools")
_REPLACED: dict[str, tuple[str, ...]] = {
    "gemini-3-pro-preview": (*_PRO, "gemini-2.5-pro"),
    "gemini-3.1-pro-preview": (*_PRO, "gemini-2.5-pro"),
    "gemini-3-flash-preview": ("gemini-3.5-flash", "gemini-3.8-flash"),
}
"""model -> what the CLI may send in its place: a newer one with an API key, an older one when the account has no previews.

The alias is lost then, and with it all values; only an override for the other name brings them back."""

RENAMES = frozenset({"gemini-3-pro-preview", "gemini-3.1-pro-preview"})
"""models that are always sent under another name with an API key: of their aliases a worker can know only one"""


def home_settings(key: bool, aliases: Mapping[str, str]) -> dict[str, Any]:
    """`.gemini/settings.json` of a worker's home. `aliases` maps model configurations (JSON texts) to names.

    A session that is loaded knows only these aliases; the process reads them once, when it starts.
    """
    settings: dict[str, Any] = {
        "general": {
            "enableAutoUpdate": False,
            "enableAutoUpdateNotification": False,
            "checkpointing": {"enabled": False},
            "plan": {"enabled": False},
            "maxAttempts": 1,
            "retryFetchErrors": False,
            "topicUpdateNarration": False,
            "sessionRetention": {"enabled": True, "maxAge": "1h", "minRetention": "1h"},
        },
        "ui": {"hideBanner": True, "hideTips": True},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "security": {
            "folderTrust": {"enabled": False},
            "disableYoloMode": True,
            "disableAlwaysAllow": True,
            "auth": {"selectedType": "gemini-api-key" if key else "oauth-personal"},
        },
        "model": {
            "maxSessionTurns": 1,
            "disableLoopDetection": True,
            "skipNextSpeakerCheck": True,
            "compressionThreshold": 1.0,
        },
        "context": {
            "fileName": ["LLMUX_SYSTEM.md"],  # instead of GEMINI.md, and there is none
            "includeDirectoryTree": False,
            "discoveryMaxDirs": 1,
            "memoryBoundaryMarkers": ["."],
            "fileFiltering": {"enableRecursiveFileSearch": False},
        },
        "tools": {"core": ["none"], "useRipgrep": False},
        "useWriteTodos": False,
        "mcpServers": {},
        "mcp": {"allowed": ["none"]},
        "skills": {"enabled": False},
        "hooksConfig": {"enabled": False},
        "experimental": {"enableAgents": False, "extensionManagement": False, "autoMemory": False, "gemma": False},
        "admin": {"extensions": {"enabled": False}, "mcp": {"enabled": False}, "skills": {"enabled": False}},
        "advanced": {"autoConfigureMemory": False, "ignoreLocalEnv": True},
    }
    if aliases:
        settings["model"]["name"] = next(iter(aliases.values()))
        settings["modelConfigs"] = _home_model_configs(aliases)
    else:
        settings["model"]["name"] = "gemini-3-flash-preview"
    return settings


def request_settings(model_config: str) -> dict[str, Any]:
    """`.gemini/settings.json` of one request's working directory, for a new session."""
    config = json.loads(model_config)
    overrides = [_override(name, config) for name in _REPLACED.get(config["model"], ())]
    return {
        "modelConfigs": {"customAliases": {"req": {"modelConfig": config}}, "customOverrides": overrides},
        "model": {"name": "req"},
    }


def _home_model_configs(aliases: Mapping[str, str]) -> dict[str, Any]:
    """All aliases, and overrides for the one renamed model among them, under names that no other alias has."""
    configs = {alias: json.loads(text) for text, alias in aliases.items()}
    renamed = [config for config in configs.values() if config["model"] in RENAMES]
    return {
        "customAliases": {alias: {"modelConfig": config} for alias, config in configs.items()},
        "customOverrides": [_override(name, config) for config in renamed[:1] for name in _PRO],
    }


def _override(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    generate = dict(config["generateContentConfig"])
    if name.startswith("gemini-2.5"):
        generate.pop("thinkingConfig", None)  # it knows budgets, not levels
    return {"match": {"model": name}, "modelConfig": {"generateContentConfig": generate}}


def renames(model_config: str) -> bool:
    """Whether this model configuration needs an override in the home, of which a worker can have only one."""
    return json.loads(model_config)["model"] in RENAMES


def carried(model: str, served: str, loaded: bool) -> bool:
    """Whether the values wished for `model` reached the model that the CLI really asked (`served`, "" = not told)."""
    known = (_PRO if model in RENAMES else ()) if loaded else _REPLACED.get(model, ())
    return served in ("", model, *known)
