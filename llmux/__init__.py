"""LLMux: one HTTP API over logged-in CLIs (Claude Code, Gemini CLI, Codex) and a local Ollama, event-sourced."""

__version__ = "3.0.0"
