"""What if: the recorded requests routed anew with other weights or rules, by the router's own function, without any model."""

from llmux.actors.simulation.report import Figures, Guess, ProviderReport, Report, Totals
from llmux.actors.simulation.rules import RESTING_KINDS, Rules
from llmux.actors.simulation.simulation import Simulation, Window

__all__ = [
    "RESTING_KINDS",
    "Figures",
    "Guess",
    "ProviderReport",
    "Report",
    "Rules",
    "Simulation",
    "Totals",
    "Window",
]
