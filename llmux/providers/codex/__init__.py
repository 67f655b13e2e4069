"""The provider `codex`: one persistent `codex app-server`, spoken to in JSON-RPC over its stdin and stdout."""

from llmux.providers.codex.adapter import CodexAdapter

__all__ = ["CodexAdapter"]
