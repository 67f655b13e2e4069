"""What the actors know for sure: frozen values folded from the event log, the same way live and in replay."""

from llmux.actors.facts.house import EMPTY, Facts, evolve, plain

__all__ = ["EMPTY", "Facts", "evolve", "plain"]
