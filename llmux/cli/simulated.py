"""A simulation's report as people read it: a table of what was and what would have been, and its model in sentences."""

from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmux.actors.simulation import Figures, Report, Totals

GUESSES_SHOWN = 12


def print_report(report: Report, file: TextIO) -> None:
    """Prints the whole report. Estimates carry a `~`."""
    console = Console(file=file, highlight=False, markup=False)
    if not report.accepted:
        console.print("The log holds no request here, so there is nothing to simulate.")
        return
    console.print(_headline(report), soft_wrap=True)
    if report.routed:
        console.print(_weights(report), soft_wrap=True)
        console.print()
        console.print(_table(report))
        console.print()
    for sentence in sentences(report):
        console.print(f"- {sentence}", soft_wrap=True)


def sentences(report: Report) -> list[str]:
    """How sure the figures are, and the model behind the estimates."""
    return [*_trust(report), *_model(report)]


def _headline(report: Report) -> str:
    aside = {
        "joined another's flight": report.joined,
        "were answered from the cache": report.from_cache,
        "ended before any route was tried": report.untried,
        "were not over yet": report.open,
    }
    rest = "; ".join(f"{count:,} {what}" for what, count in aside.items() if count)
    return (
        f"Positions {report.first} to {report.last}: {report.accepted:,} requests, of which {report.routed:,} were tried on routes"
        f"{f' ({rest}: these stay as they are)' if rest else ''}."
    )


def _weights(report: Report) -> str:
    parts = []
    for each in report.providers:
        was = "/".join(map(str, each.weights)) or "-"
        parts.append(f"{each.provider} {was}" if each.weight is None else f"{each.provider} {was} -> {each.weight}")
    return f"Weights: {', '.join(parts)}."


# --- the table ------------------------------------------------------------------------------------------------------


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="")
    table.add_column("provider", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for each in report.providers:
        if each.recorded.attempts or each.simulated.attempts:
            table.add_row(Text(each.provider), *_cells(each.recorded))
            table.add_row("  simulated", *_cells(each.simulated))
    table.add_row("all", *_cells_of_all(report.recorded))
    table.add_row("  simulated", *_cells_of_all(report.simulated))
    return table


_COLUMNS = (
    "first\ntried", "share", "fall-\nbacks", "an-\nswered", "fail-\nures", "at-\ntempts", "tokens", "median\nms",
)  # fmt: skip


def _cells_of_all(totals: Totals) -> list[str]:
    fallbacks, answered = (
        ("~" if name in totals.estimates else "") + _number(getattr(totals, name)) for name in ("fallbacks", "answered")
    )
    return [_number(totals.requests), "", fallbacks, answered]


def _cells(figures: Figures) -> list[str]:
    cells = {
        "requests": _number(figures.requests),
        "share": f"{figures.share:.1%}",
        "fallbacks": _number(figures.fallbacks),
        "answered": _number(figures.answered),
        "failures": _number(figures.failures),
        "attempts": _number(figures.attempts),
        "tokens": _number(round(figures.tokens)),
        "median_ms": "-" if figures.median_ms is None else f"{figures.median_ms:,}",
    }
    return [f"~{cell}" if name in figures.estimates and cell != "-" else cell for name, cell in cells.items()]


def _number(number: float) -> str:
    return f"{number:,}" if number == int(number) else f"{number:,.1f}"


# --- the sentences --------------------------------------------------------------------------------------------------


def _trust(report: Report) -> list[str]:
    was, would = report.recorded, report.simulated
    told = [
        f"{report.moved:,} of {report.routed:,} requests would have been tried first at another provider.",
        f"Failed: {_number(was.failed)} recorded, {_mark(report, 'failed')}{_number(would.failed)} simulated."
        + (f" Given up by their clients, or at a stop: {_number(was.given_up)}." if was.given_up else ""),
        f"Of {report.known:,} requests the log knows every step of the simulated way; {report.estimated:,} are estimated"
        f"{', and every figure that they touch is marked ~ (an expected value)' if report.estimated else ''}.",
    ]
    if report.reproduced == report.accepted:
        told.append("The router makes the recorded order of every request from its recorded weights and draw.")
    else:
        told.append(
            f"The router does not make the recorded order of {report.accepted - report.reproduced:,} requests from their "
            "recorded weights and draw: their simulated order is an estimate too."
        )
    if report.order_assumed and (report.moved or report.reproduced < report.accepted):
        told.append(
            f"{report.order_assumed:,} requests were routed by a gateway whose log does not tell the order of its providers; "
            "the usual one was assumed (claude, gemini, codex, ollama, then by name)."
        )
    told += [f"{name} was not enabled, so its weight changes nothing." for name in report.disabled]
    return told if report.routed else told[3:]


def _mark(report: Report, name: str) -> str:
    return "~" if name in report.simulated.estimates else ""


def _model(report: Report) -> list[str]:
    if not report.routed:
        return []
    what = "All other exclusions" if report.rests_changed else "Exclusions"
    told = [
        f"{what}, cached answers and clients that left stay as recorded: other traffic could have spent quotas sooner or later."
    ]
    if not report.fallback:
        told.append("Without fallback, the first route that is tried is the only one.")
    if report.rests_changed or report.rests_kept:
        told.append(
            f"{report.rests_changed:,} recorded rests would have been longer, shorter or needless; {report.rests_kept:,} stay, "
            "because the provider itself had said their end. A route that comes back before its recorded rest was over is "
            "taken to fail as before, and to rest again: a careful guess. Requests that were refused because every route rested are not in "
            "the log, so none of them comes back."
        )
    if report.guesses:
        told.append(
            "A route that a request never tried is taken to answer as often, and as fast, as it did in this window; "
            "a moved request costs the tokens that it really cost."
        )
    for guess in report.guesses[:GUESSES_SHOWN]:
        told.append(_guess(guess.provider, guess.model, guess.of, guess.tries, guess.answered, guess.median_ms))
    if len(report.guesses) > GUESSES_SHOWN:
        told.append(f"(and {len(report.guesses) - GUESSES_SHOWN} more routes; --json has them all)")
    return told


def _guess(provider: str, model: str, of: str, tries: int, answered: float, median_ms: int | None) -> str:
    if of == "nothing":
        return f"{provider} {model} was never tried: it is taken to answer always, and nobody knows how fast."
    whose = "" if of == "route" else f", going by all of {provider}"
    median = "" if median_ms is None else f", median {median_ms:,} ms"
    return f"{provider} {model}: {answered:.1%} answered of {tries:,} tries{median}{whose}."
