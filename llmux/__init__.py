"""LLMux: one HTTP API over logged-in CLIs (Claude Code, Gemini CLI, Codex) and a local Ollama, with an event log that can be replayed."""

__version__ = "3.0.0"
