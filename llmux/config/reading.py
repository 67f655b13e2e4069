"""Reads the configuration from the environment and `llmux.toml`. The environment wins over the file."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from llmux.config.checks import check, check_provider
from llmux.config.settings import KINDS, NAME, ProviderSettings, Settings
from llmux.failures import ConfigurationWrong, printable

T = TypeVar("T")

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
    providers = _demo_providers() if demo else _providers(table.get("providers", {}), environ, source)
    if demo:
        values["stand_ins"] = {name: f"{name}-demo" for name in DEFAULT_PROVIDERS}
        values["default_provider"] = f"{values.get('default_provider', 'claude').removesuffix('-demo')}-demo"
    aliases = table.get("models", {}).get("aliases", {})
    settings = _convert({**values, "providers": providers, "aliases": aliases}, Settings, source)
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


_FILE_KEYS = {"providers", "models", "limits", "server", "cache"}
_SERVER_KEYS = {"host", "port", "default_provider", "request_timeout_ms", "allowed_hosts", "shutdown_grace_ms"}


def _from_file(table: Mapping[str, Any], source: str) -> dict[str, Any]:
    unknown = set(table) - _FILE_KEYS
    if unknown:
        raise ConfigurationWrong(
            f"{source} has a table that means nothing here: {sorted(unknown)[0]}. Known ones: {', '.join(sorted(_FILE_KEYS))}."
        )
    server = table.get("server", {})
    if set(server) - _SERVER_KEYS:
        raise ConfigurationWrong(f"{source}: [server] knows only {', '.join(sorted(_SERVER_KEYS))}.")
    cache = table.get("cache", {})
    if set(cache) - {"ttl_ms", "entries_max", "bytes_max"}:
        raise ConfigurationWrong(f"{source}: [cache] knows only bytes_max, entries_max, ttl_ms.")
    return {**server, **{f"cache_{key}": value for key, value in cache.items()}, "limits": table.get("limits", {})}


def _boolean(text: str, name: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ConfigurationWrong(f"{name} is '{printable(text, 40)}'; write true or false.")


def _number(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text.strip()):
        raise ConfigurationWrong(f"{name} is '{printable(text, 40)}'; write a whole number.")
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
    "ALLOW_UNAUTHENTICATED": ("allow_unauthenticated", _boolean),
    "ALLOWED_HOSTS": ("allowed_hosts", _list),
    "CACHE_TTL": ("cache_ttl_ms", _number),
    "CACHE_MAX_SIZE": ("cache_entries_max", _number),
    "SHUTDOWN_GRACE": ("shutdown_grace_ms", _number),
    "LLMUX_SECRET": ("secret", _text),
}
"""Environment variable -> field of Settings, and how its text is read.

Beside these: OLLAMA_HOST, LLMUX_DATA_DIR, LLMUX_CONFIG and LLMUX_DATABASE_URL."""


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


def _providers(table: Any, environ: Mapping[str, str], source: str) -> dict[str, ProviderSettings]:
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise ConfigurationWrong(f"{source}: [providers] holds one table per provider, such as [providers.claude].")
    merged = {
        name: {**DEFAULT_PROVIDERS.get(name, {}), **table.get(name, {})} for name in {**DEFAULT_PROVIDERS, **table}
    }
    if environ.get("OLLAMA_HOST"):
        merged["ollama"]["url"] = environ["OLLAMA_HOST"]
    providers = {}
    for name, values in merged.items():
        if not NAME.fullmatch(name):
            raise ConfigurationWrong(f"{source}: '{printable(name, 40)}' is no name for a provider (a-z, 0-9, '-').")
        if "kind" not in values:
            raise ConfigurationWrong(f"{source}: [providers.{name}] needs kind = one of {', '.join(KINDS)}.")
        provider: ProviderSettings = _convert(values, ProviderSettings, f"{source}, [providers.{name}]")
        check_provider(name, provider)
        if provider.kind == "ollama":
            provider = msgspec.structs.replace(provider, url=http_url(provider.url))
        providers[name] = provider
    return providers


def _demo_providers() -> dict[str, ProviderSettings]:
    return {
        f"{name}-demo": ProviderSettings(
            kind="scripted", weight=values["weight"], default_model=values["default_model"], models=values["models"]
        )
        for name, values in DEFAULT_PROVIDERS.items()
    }


def http_url(text: str) -> str:
    """Ollama's address as `http://host:port`, from any form that Ollama's own OLLAMA_HOST takes. Raises ConfigurationWrong."""
    full = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(full)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.scheme not in ("http", "https") or parts.username or parts.query or parts.fragment:
        raise ConfigurationWrong(
            f"'{printable(text, 100)}' is no address of an Ollama server; write something like http://127.0.0.1:11434."
        )
    host = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    default = 11434 if "://" not in text else {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}:{port or default}{parts.path.rstrip('/')}"


def _convert(values: Any, cls: type[T], source: str) -> T:
    try:
        return msgspec.convert(values, cls, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigurationWrong(f"{source}: {error}.") from None
