"""The settings that make a pure chat model of the Gemini CLI: no tools, no files, no memory, no telemetry, no updates. Pure."""

import json
from collections.abc import Mapping
from typing import Any

DENY_ALL = '[[rule]]\ntoolName = "*"\ndecision = "deny"\npriority = 999\n'
"""an admin policy under which no tool runs"""

_RENAMED = ("gemini-3.1-pro-preview", "gemini-3.1-pro-preview-customtools")
RENAMES = frozenset({"gemini-3-pro-preview", "gemini-3.1-pro-preview"})
"""models that the CLI may send under another name; their alias is lost then, and only an override for that name helps"""


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
        settings["modelConfigs"] = _model_configs(aliases)
    else:
        settings["model"]["name"] = "gemini-3-flash-preview"
    return settings


def request_settings(model_config: str) -> dict[str, Any]:
    """`.gemini/settings.json` of one request's working directory, for a new session."""
    return {"modelConfigs": _model_configs({model_config: "req"}), "model": {"name": "req"}}


def _model_configs(aliases: Mapping[str, str]) -> dict[str, Any]:
    custom: dict[str, Any] = {}
    overrides: list[dict[str, Any]] = []
    for text, alias in aliases.items():
        config = json.loads(text)
        custom[alias] = {"modelConfig": config}
        if config["model"] in RENAMES and not overrides:
            generate = {"generateContentConfig": config["generateContentConfig"]}
            overrides = [{"match": {"model": name}, "modelConfig": generate} for name in _RENAMED]
    return {"customAliases": custom, "customOverrides": overrides}


def renames(model_config: str) -> bool:
    """Whether this model configuration needs an override, of which a worker can have only one."""
    return json.loads(model_config)["model"] in RENAMES
