"""Writes what nobody foresaw into the gateway's own log: where it happened, never the words of the exception (they may quote a prompt)."""

import traceback

import structlog

log = structlog.get_logger("llmux.http")


def report(error: BaseException, request_id: str) -> None:
    """One line per exception (of a group, per member) with its class and the places it passed. `request_id` "" = none."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            report(member, request_id)
        return
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error("unexpected failure", request_id=request_id, error=type(error).__name__, places=places)
