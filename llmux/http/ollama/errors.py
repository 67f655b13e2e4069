"""A problem as Ollama's clients read it: `error` is a text. LLMux's own dialect writes the same, and a little beside it."""

from llmux.http.native import error_body

__all__ = ["error_body"]
