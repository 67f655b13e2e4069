"""Which adapter stands for which kind of provider."""

from collections.abc import Callable

from llmux.providers.adapter import Adapter, Place
from llmux.providers.claude import ClaudeAdapter
from llmux.providers.codex import CodexAdapter
from llmux.providers.gemini import GeminiAdapter
from llmux.providers.ollama import OllamaAdapter
from llmux.providers.scripted import ScriptedAdapter

ADAPTERS: dict[str, Callable[[Place], Adapter]] = {
    "claude": ClaudeAdapter,
    "codex": CodexAdapter,
    "gemini": GeminiAdapter,
    "ollama": OllamaAdapter,
    "scripted": ScriptedAdapter,
}


def adapter_for(place: Place) -> Adapter:
    """A new adapter of the kind that `place.settings.kind` names (the configuration has checked it)."""
    return ADAPTERS[place.settings.kind](place)
