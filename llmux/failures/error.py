"""The root of all failures, and what makes foreign text fit for their sentences."""


class LLMuxError(Exception):
    """The root of every failure that LLMux raises on purpose. `status` and `code` are what an HTTP client is told."""

    status = 500
    code = "internal_error"
    retry_after_ms: int | None = None


def printable(text: str, limit: int = 300) -> str:
    """`text` made fit for one line of a log, a terminal or an error body: control characters become spaces, long text is cut."""
    clean = "".join(char if char.isprintable() else " " for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
