"""How the process talks to its operator: structured lines on stderr, pretty on a terminal, JSON elsewhere."""

import logging
import sys
import traceback

import structlog


def configure() -> None:
    """Sets structlog and the standard library's logging up for the whole process."""
    pretty = sys.stderr.isatty()
    render = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


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
