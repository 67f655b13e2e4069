"""Every setting, with its default and its limit: one frozen value, read once from the environment and `llmux.toml`.

The environment wins over the file. A setting that cannot be used raises ConfigurationWrong with a sentence that says what to
write instead. Units stand last in a name: `_ms`, `_bytes`, `_max` for limits.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from llmux.failures import ConfigurationWrong, ProviderUnknown, printable

T = TypeVar("T")
KINDS = ("claude", "gemini", "codex", "ollama", "scripted")
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@=,+\[\]-]{0,199}")
SMART = frozenset({"auto", "smart"})


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen group of settings that knows all its fields."""


class Account(Struct, frozen=True):
    """One login of a provider. `config_dir` is where its CLI keeps that login ("" = the CLI's own default place)."""

    name: str = "default"
    config_dir: str = ""


class ProviderSettings(Struct, frozen=True):
    """How one provider is reached and how much of the traffic it gets."""

    kind: str
    enabled: bool = True
    command: str = ""
    """the CLI: a name on PATH or an absolute path"""
    url: str = ""
    """ollama: the server"""
    base_url: str = ""
    """codex: the upstream written into its generated config.toml ("" = the vendor's)"""
    weight: int = 1
    """share of the traffic, relative to the other providers; 0 = only when asked for by name, or as the last resort"""
    default_model: str = ""
    models: tuple[str, ...] = ()
    upstream: Mapping[str, str] = {}
    """model as clients name it -> model as the provider must be told, where they differ"""
    warm: int = 1
    """workers kept ready (per used model where the model is fixed at the start of a process)"""
    concurrency: int = 4
    """attempts at the same time"""
    env: Mapping[str, str] = {}
    """all that the CLI's process gets beyond the minimal environment"""
    accounts: tuple[Account, ...] = (Account(),)
    cooldown_ms: int = 600_000
    """rest after a spent quota whose end the provider does not tell"""
    first_byte_ms_max: int = 60_000
    idle_ms_max: int = 60_000


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


class Limits(Struct, frozen=True):
    """What is bounded, and how far. Every queue, body, wait and file of the gateway has its line here."""

    body_bytes_max: int = 10 * 1024 * 1024
    body_wait_ms_max: int = 30_000
    header_bytes_max: int = 32 * 1024
    messages_max: int = 2_000
    json_depth_max: int = 64
    stop_sequences_max: int = 16
    connections_max: int = 2_000
    connection_idle_ms_max: int = 75_000
    """a connection on which no whole request head arrives for this long is closed"""
    mailbox_max: int = 4_096
    ask_ms_max: int = 10_000
    flights_max: int = 1_000
    provider_queue_max: int = 64
    provider_queue_wait_ms_max: int = 30_000
    answer_bytes_max: int = 16 * 1024 * 1024
    line_bytes_max: int = 16 * 1024 * 1024
    stderr_tail_bytes_max: int = 16 * 1024
    stop_ms_max: int = 1_000
    """how long a process may take to end after SIGTERM before SIGKILL follows"""
    call_ms_max: int = 15_000
    """how long a provider's program may take to acknowledge one call of its own protocol (not to answer a prompt)"""
    probe_ms_max: int = 10_000
    probe_interval_ms: int = 60_000
    cooldown_ms_max: int = 7 * 24 * 3_600_000
    """a reset time further away than this is not believed"""
    append_rows_max: int = 512
    append_bytes_max: int = 4 * 1024 * 1024
    append_ms_max: int = 30_000
    busy_ms_max: int = 5_000
    read_rows_max: int = 1_000
    restarts_max: int = 3
    restart_window_ms: int = 5_000
    keep_alive_ms: int = 15_000
    """a comment is sent on a stream after this much silence"""
    client_stall_ms_max: int = 60_000
    """a client that takes no byte for this long is cut off"""


class Settings(Struct, frozen=True):
    """The whole configuration."""

    host: str = "127.0.0.1"
    port: int = 8765
    default_provider: str = "claude"
    request_timeout_ms: int = 120_000
    api_key_required: bool = False
    api_key: str = ""
    admin_key: str = ""
    allow_unauthenticated: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cache_ttl_ms: int = 3_600_000
    cache_entries_max: int = 1_000
    cache_bytes_max: int = 64 * 1024 * 1024
    shutdown_grace_ms: int = 10_000
    secret: str = ""
    """what fingerprints are keyed with ("" = a file made in the data directory)"""
    data_dir: Path = Path.home() / ".local/share/llmux"
    providers: Mapping[str, ProviderSettings] = {}
    aliases: Mapping[str, str] = {}
    """name a client asks for -> model or provider/model"""
    stand_ins: Mapping[str, str] = {}
    """name of a provider that is asked for -> provider that answers in its place (the demo)"""
    limits: Limits = Limits()

    def provider_named(self, name: str) -> str:
        """The enabled provider that is meant by `name`. Raises ProviderUnknown."""
        name = self.stand_ins.get(name, name)
        provider = self.providers.get(name)
        if provider is None or not provider.enabled:
            raise ProviderUnknown(name, tuple(n for n, p in self.providers.items() if p.enabled))
        return name

    def routing(self) -> dict[str, Any]:
        """The routing configuration without anything secret: what the log keeps of it."""
        return {
            "default_provider": self.default_provider,
            "aliases": dict(self.aliases),
            "providers": {
                name: {
                    "kind": p.kind,
                    "enabled": p.enabled,
                    "weight": p.weight,
                    "default_model": p.default_model,
                    "models": list(p.models),
                    "accounts": [account.name for account in p.accounts],
                    "concurrency": p.concurrency,
                    "cooldown_ms": p.cooldown_ms,
                }
                for name, p in self.providers.items()
            },
        }


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
    _check(settings)
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
        _check_provider(name, provider)
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


def _check_provider(name: str, provider: ProviderSettings) -> None:
    where = f"[providers.{name}]"
    if provider.kind not in KINDS:
        raise ConfigurationWrong(f"{where}: kind is '{printable(provider.kind, 40)}'; write one of {', '.join(KINDS)}.")
    if not 0 <= provider.weight <= 10_000:
        raise ConfigurationWrong(f"{where}: weight is {provider.weight}; write 0 to 10000.")
    if not 1 <= provider.concurrency <= 1_000:
        raise ConfigurationWrong(f"{where}: concurrency is {provider.concurrency}; write 1 to 1000.")
    if provider.warm < 0 or provider.warm > 64:
        raise ConfigurationWrong(f"{where}: warm is {provider.warm}; write 0 to 64.")
    for model in (provider.default_model, *provider.models, *provider.upstream.values()):
        if not MODEL_NAME.fullmatch(model):
            raise ConfigurationWrong(f"{where}: '{printable(model, 60)}' is no name for a model.")
    names = [account.name for account in provider.accounts]
    if not names or len(set(names)) != len(names) or not all(NAME.fullmatch(account) for account in names):
        raise ConfigurationWrong(f"{where}: every account needs a name of its own (a-z, 0-9, '-').")


def loopback(host: str) -> bool:
    """Whether `host` is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_SAMPLES = frozenset(
    {"your-admin-secret", "sk-default-key", "sk-your-api-key", "changeme", "secret", "admin", "password"}
)


def _check(settings: Settings) -> None:
    if not 0 <= settings.port <= 65535:
        raise ConfigurationWrong(f"PORT is {settings.port}; write 0 to 65535.")
    if settings.request_timeout_ms < 1:
        raise ConfigurationWrong(
            "REQUEST_TIMEOUT is 0; write the milliseconds a whole request may take, such as 120000."
        )
    try:
        settings.provider_named(settings.default_provider)
    except ProviderUnknown as error:
        raise ConfigurationWrong(f"DEFAULT_PROVIDER: {error}") from None
    for name, key in (("API_KEY", settings.api_key), ("ADMIN_KEY", settings.admin_key)):
        if key and (key.lower() in _SAMPLES or len(key) < 16):
            raise ConfigurationWrong(
                f"{name} is a sample or too short to be a secret; write at least 16 characters, such as the output of: openssl rand -hex 32"
            )
    if settings.api_key and settings.api_key == settings.admin_key:
        raise ConfigurationWrong("API_KEY and ADMIN_KEY are the same; a user's key must not open the admin routes.")
    if not loopback(settings.host) and not settings.api_key_required and not settings.allow_unauthenticated:
        raise ConfigurationWrong(
            f"HOST is {settings.host}, which other machines can reach, and no key is required. Either set API_KEY_REQUIRED=true "
            "(and API_KEY or ADMIN_KEY), or, if only trusted programs can reach that address, ALLOW_UNAUTHENTICATED=true."
        )
    if settings.api_key_required and not settings.api_key and not settings.admin_key:
        raise ConfigurationWrong(
            "API_KEY_REQUIRED is true, but there is neither an API_KEY nor an ADMIN_KEY to make keys with."
        )
    for alias, target in settings.aliases.items():
        if alias in SMART or not MODEL_NAME.fullmatch(target):
            raise ConfigurationWrong(
                f"[models.aliases]: '{printable(alias, 60)}' cannot stand for '{printable(target, 60)}'."
            )


def from_environment(*, demo: bool = False) -> Settings:
    """The configuration of this process."""
    return load(os.environ, demo=demo)


def replaced(settings: Settings, **changes: Any) -> Settings:
    """The same configuration with some values changed."""
    return msgspec.structs.replace(settings, **changes)
