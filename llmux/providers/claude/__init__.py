"""Claude Code (`claude`) as a pure chat model: one logged-in CLI process per answer, spoken to in JSON lines.

provider.py      the adapter: one process per answer
pool.py          the processes that wait warm, and how many
worker.py        one process: started, found alive, lent once, ended
conversation.py  one prompt to one process, and its answer back
frames.py        a prompt as the JSON lines that the CLI reads
images.py        which images reach the model as they are
reading.py       the CLI's JSON lines as chunks, quota windows and the end of the answer
signs.py         the signs of a failure and what kind each one is
login.py         environment, version and login of the CLI
usage.py         what a subscription has used, asked without tokens
wire.py          lines as bytes and back
"""

from llmux.providers.claude.provider import ClaudeAdapter

__all__ = ["ClaudeAdapter"]
