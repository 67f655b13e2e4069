"""Blame: the store. The event log could not do it, or is not what was written."""

from llmux.failures.error import LLMuxError, printable


class StoreFailure(LLMuxError):
    """The event log could not do it. Nothing is acknowledged that is not on disk."""

    status = 503
    code = "store_unavailable"
    retry_after_ms = 1000


class WrongExpectedVersion(StoreFailure):
    """Somebody else appended to the stream first. `expected` is what the caller thought, `actual` the version it has (-1: no stream)."""

    status = 409
    code = "wrong_expected_version"

    def __init__(self, stream: str, expected: int, actual: int):
        super().__init__(f"Stream {stream} is at version {actual}, not at {expected} as expected.")
        self.stream, self.expected, self.actual = stream, expected, actual


class EventIdReused(StoreFailure):
    """An event with this id is in the log already, with other content."""

    status = 409
    code = "event_id_reused"


class EventMalformed(StoreFailure):
    """The events cannot be recorded at all: an unregistered fact, or text that UTF-8 cannot hold."""

    status = 500
    code = "event_malformed"


class StoreFull(StoreFailure):
    """The disk, or the byte budget of the log, is full."""

    status = 507
    code = "store_full"


class OutcomeUnknown(StoreFailure):
    """The append may or may not have been committed. Append the same events (same ids) again to find out."""

    code = "outcome_unknown"


class LogDamaged(StoreFailure):
    """The log is not what was written: `position` is the first event that does not fit."""

    code = "log_damaged"

    def __init__(self, message: str, position: int | None = None):
        super().__init__(message)
        self.position = position


class TailMissing(LogDamaged):
    """What the log holds is whole, but it once held more or something else: `position` is the first that is missing or other."""

    code = "log_tail_missing"


class ChainKeyWrong(StoreFailure):
    """The log cannot be checked or continued with the chain key that is set, or without one. `position` is where that begins."""

    code = "chain_key_wrong"

    def __init__(self, message: str, position: int | None = None):
        super().__init__(message)
        self.position = position


class ArchiveMissing(StoreFailure):
    """The events that were asked for are in an archive whose file is not there."""

    status = 409
    code = "archive_missing"


class SchemaUnknown(StoreFailure):
    """The tables of the log are of another version than this program knows."""

    code = "schema_unknown"


class UnknownEvent(StoreFailure):
    """The log holds an event at `position` of a type or schema that this version cannot read."""

    status = 500
    code = "event_unknown"

    def __init__(self, position: int, type: str, schema: int):
        what = f"Position {position} holds a {printable(type, 60)} of schema {schema}, which this version cannot read."
        super().__init__(
            f"{what} Use the LLMux that wrote it or a newer one; or, if it does not matter, stop the gateway and type: "
            f"llmux events skip {position} --reason '...'"
        )
        self.position = position


class DirectoryInUse(StoreFailure):
    """Another gateway owns the data directory."""

    code = "directory_in_use"
