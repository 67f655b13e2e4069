"""The configuration: what can be set (`settings`), how it is read (`reading`), and what cannot be used (`checks`)."""

from llmux.config.reading import DEFAULT_PROVIDERS, ENVIRONMENT, from_environment, http_url, load
from llmux.config.settings import (
    KINDS,
    MODEL_NAME,
    NAME,
    SMART,
    Account,
    Limits,
    ProviderSettings,
    Settings,
    replaced,
)

__all__ = [
    "DEFAULT_PROVIDERS",
    "ENVIRONMENT",
    "KINDS",
    "MODEL_NAME",
    "NAME",
    "SMART",
    "Account",
    "Limits",
    "ProviderSettings",
    "Settings",
    "from_environment",
    "http_url",
    "load",
    "replaced",
]
