"""What the actors know for sure: frozen values folded from the event log, the same way live and in replay."""

from llmux.actors.facts.house import EMPTY, SCHEMA, Facts, evolve, load, plain

__all__ = ["EMPTY", "SCHEMA", "Facts", "evolve", "load", "plain"]
