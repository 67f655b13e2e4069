"""Which adapter stands for which kind of provider."""

from importlib import import_module

from llmux.providers.adapter import Adapter, Place

_ADAPTERS = {
    "claude": ("llmux.providers.claude", "ClaudeAdapter"),
    "codex": ("llmux.providers.codex", "CodexAdapter"),
    "gemini": ("llmux.providers.gemini", "GeminiAdapter"),
    "ollama": ("llmux.providers.ollama", "OllamaAdapter"),
    "scripted": ("llmux.providers.scripted", "ScriptedAdapter"),
}


def adapter_for(place: Place) -> Adapter:
    """A new adapter of the kind that `place.settings.kind` names (the configuration has checked it). Only that kind's code is loaded."""
    module, name = _ADAPTERS[place.settings.kind]
    adapter: Adapter = getattr(import_module(module), name)(place)
    return adapter
