"""The real command-line tools, as tests/clis.py installs them: each function fails with a sentence when its tool is not there."""

from tests import clis
from tests.clis import claude, codex, node

__all__ = ["claude", "codex", "gemini", "node"]


def gemini() -> list[str]:
    """How Gemini CLI is started: node and its script."""
    return [str(node()), str(clis.gemini())]
