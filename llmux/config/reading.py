"""Reads the configuration from the environment and `llmux.toml`. The environment wins over the file."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from llmux.config.chain_keys import chain_keys
from llmux.config.checks import HOST, check, check_provider
from llmux.config.prices import own_prices
from llmux.config.settings import KINDS, NAME, Limits, ProviderSettings, Settings
from llmux.config.tables import quoted, refuse_unknown, struct_of, subtable, value_of
from llmux.failures import ConfigurationWrong

DEFAULT_PROVIDERS: dict[str, dict[str, Any]] = {
    "claude": {
        "kind": "claude",
        "command": "claude",
        "weight": 50,
        "default_model": "claude-opus-4-5",
        "models": ("claude-opus-4-5", "claude-sonnet-4", "claude-haiku-4"),
        "upstream": {"claude-sonnet-4": "sonnet", "claude-haiku-4": "haiku"},
    },
    "gemini": {
        "kind": "gemini",
        "command": "gemini",
        "weight": 30,
        "default_model": "gemini-3-flash-preview",
        "models": ("gemini-3-flash-preview", "gemini-3-pro-preview", "gemini-2.0-flash"),
        "cooldown_ms": 300_000,
        "first_byte_ms_max": 30_000,
    },
    "codex": {
        "kind": "codex",
        "command": "codex",
        "weight": 15,
        "default_model": "gpt-5.2-codex",
        "models": ("gpt-5.2-codex", "gpt-5.1-codex-max", "gpt-5.1-codex-mini"),
        "concurrency": 16,
    },
    "ollama": {
        "kind": "ollama",
        "url": "http://127.0.0.1:11434",
        "weight": 5,
        "default_model": "qwen3:14b",
        "models": ("qwen3:14b", "qwen2.5:0.5b"),
        "cooldown_ms": 10_000,
        "first_byte_ms_max": 300_000,  # a cold model is loaded before the first byte (Ollama's own limit: 5 min)
    },
}


OSS = {"command": "codex", "base_url": "http://127.0.0.1:11434/v1", "weight": 0}
"""what a further provider of the kind codex has when it says `oss = true` and nothing else: a share of nothing"""


def from_environment(*, demo: bool = False) -> Settings:
    """The configuration of this process."""
    return load(os.environ, demo=demo)


def load(environ: Mapping[str, str], *, demo: bool = False) -> Settings:
    """Reads the configuration. `environ` is the process's environment. Raises ConfigurationWrong."""
    text, source = _file_text(environ)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationWrong(f"{source} is not valid TOML: {error}.") from None
    values = _from_file(table, source) | _from_environment(environ)
    if demo:
        values["providers"] = _demo_providers()
        values["stand_ins"] = {name: f"{name}-demo" for name in DEFAULT_PROVIDERS}
        values["default_provider"] = f"{values.get('default_provider', 'claude').removesuffix('-demo')}-demo"
    else:
        values["providers"] = _providers(subtable(table, "providers", source), environ, source)
    values["chain_keys"] = chain_keys(environ.get("LLMUX_CHAIN_KEY", ""), values.get("chain_key_file", ""))
    settings = Settings(**values)
    check(settings)
    return settings


def _file_text(environ: Mapping[str, str]) -> tuple[str, str]:
    named = environ.get("LLMUX_CONFIG")
    path = Path(named) if named else Path(environ.get("HOME", "/")) / ".config/llmux/llmux.toml"
    try:
        return path.read_text("utf-8"), str(path)
    except FileNotFoundError:
        if named:
            raise ConfigurationWrong(f"LLMUX_CONFIG names {path}, which does not exist.") from None
        return "", "the environment"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationWrong(f"The configuration file {path} cannot be read: {error}.") from None


_SERVER_KEYS = (
    "host",
    "port",
    "default_provider",
    "request_timeout_ms",
    "allowed_hosts",
    "shutdown_grace_ms",
    "key_revoke_streams",
)
_GROUPS: dict[str, dict[str, str]] = {
    "server": {key: key for key in _SERVER_KEYS},
    "cache": {
        "ttl_ms": "cache_ttl_ms",
        "entries_max": "cache_entries_max",
        "bytes_max": "cache_bytes_max",
        "shared": "cache_shared",
        "redis_namespace": "redis_namespace",
    },
    "log": {
        "bytes_max": "log_bytes_max",
        "chain_key_file": "chain_key_file",
        "witness_file": "witness_file",
        "archive_after_days": "archive_after_days",
    },
    "content": {"record": "record_content", "retention_days": "content_retention_days"},
}
"""Table of the file -> its keys, and the fields of Settings that they are."""
_FILE_KEYS = ("providers", "models", "limits", "prices", *_GROUPS)


def _from_file(table: Mapping[str, Any], source: str) -> dict[str, Any]:
    """All of the file but its providers, by the names that Settings has for it."""
    refuse_unknown(table, _FILE_KEYS, source)
    types = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    for name, fields in _GROUPS.items():
        where, group = f"{source}, [{name}]", subtable(table, name, source)
        refuse_unknown(group, fields, where)
        for key, value in group.items():
            values[fields[key]] = value_of(value, types[fields[key]], f"{where}: {key}")
    values["limits"] = struct_of(subtable(table, "limits", source), Limits, f"{source}, [limits]")
    values["prices"] = own_prices(subtable(table, "prices", source), f"{source}, [prices]")
    values["aliases"] = _aliases(subtable(table, "models", source), source)
    return values


def _aliases(models: Mapping[str, Any], source: str) -> dict[str, str]:
    refuse_unknown(models, ("aliases",), f"{source}, [models]")
    where = f"{source}, [models.aliases]"
    aliases = subtable(models, "aliases", source, "models.aliases")
    return {alias: value_of(target, str, f"{where}: {quoted(alias)}") for alias, target in aliases.items()}


def _boolean(text: str, name: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ConfigurationWrong(f"{name} is {quoted(text)}; write true or false.")


def _number(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text.strip()):
        raise ConfigurationWrong(f"{name} is {quoted(text)}; write a whole number.")
    return int(text)


def _text(text: str, name: str) -> str:
    return text


def _list(text: str, name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


ENVIRONMENT: dict[str, tuple[str, Any]] = {
    "HOST": ("host", _text),
    "PORT": ("port", _number),
    "DEFAULT_PROVIDER": ("default_provider", _text),
    "REQUEST_TIMEOUT": ("request_timeout_ms", _number),
    "API_KEY_REQUIRED": ("api_key_required", _boolean),
    "API_KEY": ("api_key", _text),
    "ADMIN_KEY": ("admin_key", _text),
    "KEY_REVOKE_STREAMS": ("key_revoke_streams", _text),
    "ALLOW_UNAUTHENTICATED": ("allow_unauthenticated", _boolean),
    "ALLOWED_HOSTS": ("allowed_hosts", _list),
    "CACHE_TTL": ("cache_ttl_ms", _number),
    "CACHE_MAX_SIZE": ("cache_entries_max", _number),
    "CACHE_SHARED": ("cache_shared", _boolean),
    "REDIS_URL": ("redis_url", _text),
    "REDIS_NAMESPACE": ("redis_namespace", _text),
    "SHUTDOWN_GRACE": ("shutdown_grace_ms", _number),
    "RECORD_CONTENT": ("record_content", _boolean),
    "CONTENT_RETENTION_DAYS": ("content_retention_days", _number),
    "LLMUX_CHAIN_KEY_FILE": ("chain_key_file", _text),
    "LLMUX_WITNESS_FILE": ("witness_file", _text),
    "LLMUX_ARCHIVE_AFTER_DAYS": ("archive_after_days", _number),
    "LLMUX_LOG_BYTES_MAX": ("log_bytes_max", _number),
    "LLMUX_SECRET": ("secret", _text),
}
"""Environment variable -> field of Settings, and how its text is read.

Beside these: OLLAMA_HOST, LLMUX_CHAIN_KEY, LLMUX_DATA_DIR, LLMUX_CONFIG and LLMUX_DATABASE_URL."""


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {
        field: read(environ[name], name) for name, (field, read) in ENVIRONMENT.items() if environ.get(name, "") != ""
    }
    values["data_dir"] = _data_dir(environ)
    return values


def _data_dir(environ: Mapping[str, str]) -> Path:
    url = environ.get("LLMUX_DATABASE_URL", "")
    if url:
        raise ConfigurationWrong(
            "LLMUX_DATABASE_URL is set, but this version keeps its log in SQLite inside LLMUX_DATA_DIR only. "
            "Unset it, and set LLMUX_DATA_DIR to move the log."
        )
    named = environ.get("LLMUX_DATA_DIR")
    path = Path(named) if named else Path(environ.get("HOME", "/")) / ".local/share/llmux"
    return path.expanduser().absolute()


def _providers(table: Mapping[str, Any], environ: Mapping[str, str], source: str) -> dict[str, ProviderSettings]:
    providers = {}
    for name in {**DEFAULT_PROVIDERS, **table}:
        where = f"{source}, [providers.{name}]"
        if not NAME.fullmatch(name):
            raise ConfigurationWrong(f"{source}: {quoted(name)} is no name for a provider (a-z, 0-9, '-').")
        values = {**DEFAULT_PROVIDERS.get(name, {}), **subtable(table, name, source, f"providers.{name}")}
        if "kind" not in values:
            raise ConfigurationWrong(f"{where} needs kind = one of {', '.join(KINDS)}.")
        if values["kind"] == "codex" and values.get("oss") and name not in DEFAULT_PROVIDERS:
            values = {**OSS, **values}
        address = "OLLAMA_HOST" if name == "ollama" and environ.get("OLLAMA_HOST") else f"{where}: url"
        if address == "OLLAMA_HOST":
            values["url"] = environ["OLLAMA_HOST"]
        provider = struct_of(values, ProviderSettings, where)
        check_provider(provider, where)
        if provider.kind == "ollama":
            provider = msgspec.structs.replace(provider, url=http_url(provider.url, address))
        providers[name] = _offering_its_default(provider)
    return providers


def _offering_its_default(provider: ProviderSettings) -> ProviderSettings:
    """The provider with its default model among its models: whoever asks for "its models" means that one too."""
    if provider.default_model in provider.models:
        return provider
    return msgspec.structs.replace(provider, models=(provider.default_model, *provider.models))


def _demo_providers() -> dict[str, ProviderSettings]:
    return {
        f"{name}-demo": _offering_its_default(
            ProviderSettings(
                kind="scripted", weight=values["weight"], default_model=values["default_model"], models=values["models"]
            )
        )
        for name, values in DEFAULT_PROVIDERS.items()
    }


def http_url(text: str, name: str = "OLLAMA_HOST") -> str:
    """Ollama's address as `http://host:port`, from any form that Ollama's own OLLAMA_HOST takes.

    Raises ConfigurationWrong, which calls it `name` and never repeats it: it may hold a password.
    """
    text = text.strip().strip("\"'")
    full = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(full)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host and port and "@" not in text:  # ":11434" is this machine
        host = "127.0.0.1"
    secret = "@" in parts.netloc or parts.query or parts.fragment
    if not host or not HOST.fullmatch(host) or re.search(r"\s", text) or parts.scheme not in _PORTS or secret:
        raise ConfigurationWrong(
            f"{name} is no address of an Ollama server; write something like http://127.0.0.1:11434, without a password."
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # listened on, not asked at
    host = f"[{host}]" if ":" in host else host
    default = 11434 if "://" not in text else _PORTS[parts.scheme]
    return f"{parts.scheme}://{host}:{port or default}{parts.path.rstrip('/')}"


_PORTS = {"http": 80, "https": 443}
