"""Whether a configuration can be used. What cannot raises ConfigurationWrong, with a sentence that says what to write instead."""

import ipaddress

from llmux.config.settings import KINDS, MODEL_NAME, NAME, SMART, ProviderSettings, Settings
from llmux.failures import ConfigurationWrong, ProviderUnknown, printable


def check_provider(name: str, provider: ProviderSettings) -> None:
    """Checks one provider. Raises ConfigurationWrong."""
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


def check(settings: Settings) -> None:
    """Checks everything else. Raises ConfigurationWrong."""
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
