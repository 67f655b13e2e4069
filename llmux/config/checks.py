"""Whether a configuration can be used. What cannot raises ConfigurationWrong, with a sentence that says what to write instead."""

import ipaddress
import re
from urllib.parse import urlsplit

import msgspec

from llmux.config.credentials import check_credential
from llmux.config.settings import KINDS, MODEL_NAME, NAME, SMART, ProviderSettings, Settings
from llmux.config.tables import quoted
from llmux.failures import ConfigurationWrong, ProviderUnknown

HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")

AMOUNT_MAX = 10**12
DAYS_MAX = 36_500
ZERO_IS_OFF = frozenset(
    {
        "cache_ttl_ms",
        "cache_entries_max",
        "cache_bytes_max",
        "log_bytes_max",
        "shutdown_grace_ms",
        "provider_queue_max",
        "restarts_max",
    }
)


def check_amounts(values: msgspec.Struct, where: str) -> None:
    """Checks every duration and every limit among the fields of `values`. Raises ConfigurationWrong."""
    for field in values.__struct_fields__:
        if not field.endswith(("_ms", "_max")):
            continue
        least, value = 0 if field in ZERO_IS_OFF else 1, getattr(values, field)
        if not least <= value <= AMOUNT_MAX:
            raise ConfigurationWrong(f"{_PLACES.get(field, where + field)} is {value}; write {least} to {AMOUNT_MAX}.")


_PLACES = {
    "request_timeout_ms": "REQUEST_TIMEOUT ([server] request_timeout_ms)",
    "cache_ttl_ms": "CACHE_TTL ([cache] ttl_ms)",
    "cache_entries_max": "CACHE_MAX_SIZE ([cache] entries_max)",
    "cache_bytes_max": "[cache] bytes_max",
    "log_bytes_max": "LLMUX_LOG_BYTES_MAX ([log] bytes_max)",
    "shutdown_grace_ms": "SHUTDOWN_GRACE ([server] shutdown_grace_ms)",
}
"""What people write for a field of Settings."""


def check_provider(provider: ProviderSettings, where: str) -> None:
    """Checks one provider. Raises ConfigurationWrong, whose sentence begins with `where`."""
    if provider.kind not in KINDS:
        raise ConfigurationWrong(f"{where}: kind is {quoted(provider.kind)}; write one of {', '.join(KINDS)}.")
    if provider.oss and provider.kind != "codex":
        raise ConfigurationWrong(f"{where}: oss is for providers of the kind codex; this one is {provider.kind}.")
    if not 0 <= provider.weight <= 10_000:
        raise ConfigurationWrong(f"{where}: weight is {provider.weight}; write 0 to 10000.")
    if not 1 <= provider.concurrency <= 1_000:
        raise ConfigurationWrong(f"{where}: concurrency is {provider.concurrency}; write 1 to 1000.")
    if provider.warm < 0 or provider.warm > 64:
        raise ConfigurationWrong(f"{where}: warm is {provider.warm}; write 0 to 64.")
    check_amounts(provider, f"{where}: ")
    if not provider.default_model:
        raise ConfigurationWrong(f"{where} needs default_model = the model that answers when none is asked for.")
    fields = {
        "default_model": (provider.default_model,),
        "models": provider.models,
        "upstream": provider.upstream.values(),
    }
    for field, models in fields.items():
        for model in models:
            if not MODEL_NAME.fullmatch(model):
                raise ConfigurationWrong(f"{where}: {field}: {quoted(model)} is no name for a model.")
    names = [account.name for account in provider.accounts]
    if not names or len(set(names)) != len(names) or not all(NAME.fullmatch(account) for account in names):
        raise ConfigurationWrong(f"{where}: accounts: every account needs a name of its own (a-z, 0-9, '-').")


def loopback(host: str) -> bool:
    """Whether `host` is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(settings: Settings) -> None:
    """Checks everything else. Raises ConfigurationWrong."""
    if not 0 <= settings.port <= 65535:
        raise ConfigurationWrong(f"PORT is {settings.port}; write 0 to 65535.")
    if not HOST.fullmatch(settings.host):
        raise ConfigurationWrong(f"HOST is {quoted(settings.host)}; write an address or a name, such as 127.0.0.1.")
    check_amounts(settings, "")
    check_amounts(settings.limits, "[limits] ")
    if not NAME.fullmatch(settings.default_provider):
        raise ConfigurationWrong(
            f"DEFAULT_PROVIDER is {quoted(settings.default_provider)}; write the name of a provider, such as claude."
        )
    try:
        settings.provider_named(settings.default_provider)
    except ProviderUnknown as error:
        raise ConfigurationWrong(f"DEFAULT_PROVIDER: {error}") from None
    for name, key in (("API_KEY", settings.api_key), ("ADMIN_KEY", settings.admin_key)):
        if key:
            check_credential(name, key)
    if settings.api_key and settings.api_key == settings.admin_key:
        raise ConfigurationWrong("API_KEY and ADMIN_KEY are the same; a user's key must not open the admin routes.")
    if {settings.api_key, settings.admin_key, settings.secret} & set(settings.chain_keys):
        raise ConfigurationWrong(
            "The chain key is also API_KEY, ADMIN_KEY or LLMUX_SECRET; the log needs a key of its own, such as the output "
            "of: openssl rand -hex 32"
        )
    if settings.key_revoke_streams not in ("cut", "finish"):
        raise ConfigurationWrong(
            f"KEY_REVOKE_STREAMS ([server] key_revoke_streams) is {quoted(settings.key_revoke_streams)}; write cut or finish."
        )
    if not loopback(settings.host) and not settings.api_key_required and not settings.allow_unauthenticated:
        raise ConfigurationWrong(
            f"HOST is {settings.host}, which other machines can reach, and no key is required. Either set API_KEY_REQUIRED=true "
            "(and API_KEY or ADMIN_KEY), or, if only trusted programs can reach that address, ALLOW_UNAUTHENTICATED=true."
        )
    if settings.api_key_required and not settings.api_key and not settings.admin_key:
        raise ConfigurationWrong(
            "API_KEY_REQUIRED is true, but there is no key. Set API_KEY to a key for everybody, or ADMIN_KEY to make keys "
            "with (POST /admin/api-keys), or both."
        )
    if settings.redis_url:
        _check_redis(settings)
    days = settings.archive_after_days
    if days is not None and not 1 <= days <= DAYS_MAX:
        raise ConfigurationWrong(
            f"LLMUX_ARCHIVE_AFTER_DAYS ([log] archive_after_days) is {days}; write 1 to {DAYS_MAX}, or leave it away."
        )
    if not 1 <= settings.limits.snapshot_events <= AMOUNT_MAX:
        raise ConfigurationWrong(
            f"[limits] snapshot_events is {settings.limits.snapshot_events}; write 1 to {AMOUNT_MAX}."
        )
    days = settings.content_retention_days
    if days is not None and not 1 <= days <= DAYS_MAX:
        raise ConfigurationWrong(f"CONTENT_RETENTION_DAYS is {days}; write 1 to {DAYS_MAX}.")
    if settings.record_content and days is None:
        raise ConfigurationWrong(
            "RECORD_CONTENT is true, but nobody has said for how long the text of prompts and answers may be kept. "
            "Set CONTENT_RETENTION_DAYS to a number of days, such as 30."
        )
    for alias, target in settings.aliases.items():
        if alias in SMART or not MODEL_NAME.fullmatch(target):
            raise ConfigurationWrong(f"[models.aliases]: {quoted(alias)} cannot stand for {quoted(target)}.")


def _check_redis(settings: Settings) -> None:
    """Checks what belongs to REDIS_URL. The sentences never repeat it: it may hold a password."""
    try:
        parts = urlsplit(settings.redis_url)
        usable = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable or parts.query or parts.fragment or not re.fullmatch(r"/?[0-9]{0,3}", parts.path):
        raise ConfigurationWrong(
            "REDIS_URL is no address of a Redis or Valkey server; write something like redis://127.0.0.1:6379/0, or rediss:// "
            "for TLS."
        )
    if not settings.secret:
        raise ConfigurationWrong(
            "REDIS_URL is set, but not LLMUX_SECRET: gateways find each other's answers, and know them from forged ones, by a "
            "secret that they share. Set LLMUX_SECRET to the same value for all of them, such as the output of: openssl rand -hex 32"
        )
    if len(settings.secret) < 16:
        raise ConfigurationWrong(
            "LLMUX_SECRET is too short to seal what lies in Redis; write at least 16 characters, such as the output of: "
            "openssl rand -hex 32"
        )
    if not NAME.fullmatch(settings.redis_namespace):
        raise ConfigurationWrong(
            "REDIS_URL is set, and REDIS_NAMESPACE has to say whose answers these are: write a name (a-z, 0-9, '-'), the same "
            "for all gateways that share them."
        )
