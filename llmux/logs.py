"""How the process talks to its operator: structured lines on stderr, pretty on a terminal, JSON elsewhere."""

import logging
import sys
import traceback
from typing import Any

import structlog


def configure() -> None:
    """Sets structlog and the standard library's logging up for the whole life of a gateway."""
    _configure(logging.INFO, structlog.PrintLoggerFactory(sys.stderr), lasting=True)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def configure_command() -> None:
    """The same for a short command: its output is its own, and stderr only hears what is wrong."""
    _configure(logging.WARNING, lambda *_: structlog.PrintLogger(sys.stderr), lasting=False)


def _configure(level: int, factory: Any, *, lasting: bool) -> None:
    pretty = sys.stderr.isatty()
    render = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=lasting,
    )


def report(error: BaseException, event: str, **context: str) -> None:
    """Says that something happened which nobody foresaw: the class of the exception and the places it passed.

    Never its words, which may quote a prompt. A group is told member by member.
    """
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            report(member, event, **context)
        return
    places = "".join(traceback.format_tb(error.__traceback__))
    structlog.get_logger().error(event, error=type(error).__name__, places=places, **context)
