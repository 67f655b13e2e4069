"""The Gemini CLI as a chat provider: a pool of `gemini --acp` processes, each with a home of its own.

`adapter` keeps the contract, `pool` the workers, `worker` speaks JSON-RPC with one of them, `home` is all that the CLI reads
and writes on disk, `translation` turns a prompt into what the CLI is told, `signs` recognises failures, `program` finds the CLI
and its login.
"""

from llmux.providers.gemini.adapter import GeminiAdapter

__all__ = ["GeminiAdapter"]
