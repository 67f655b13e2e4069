"""Where tables for people are printed."""

from rich.console import Console

WIDTH_MIN = 140
"""columns, where no terminal bounds them"""


def wide_console() -> Console:
    """As wide as the terminal, or wide enough where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=max(WIDTH_MIN, console.width))
