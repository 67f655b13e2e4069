"""The tables of the event log, brought up to date by Alembic. Forward only; events themselves are never migrated."""

import os
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from llmux.failures import ConfigurationWrong, LogDamaged, SchemaUnknown, StoreFailure, printable

__all__ = ["newest", "upgrade"]

LOCK_WAIT_SECONDS_MAX = 30
_INCREMENTAL = 2


def newest() -> str:
    """The revision that `upgrade` leads to."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None, "there is at least one migration"
    return revision


def upgrade(path: Path) -> str:
    """Brings the database file at `path` up to date, makes it (mode 0600) if there is none, and returns its revision.

    Blocks for some milliseconds, longer while another process does the same. All steps are one transaction under SQLite's
    exclusive lock: they happen together or not at all. Raises SchemaUnknown when the file is of a newer LLMux, LogDamaged
    when it is no database, ConfigurationWrong when it cannot be made, StoreFailure for anything else.
    """
    _make(path)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        isolation_level="AUTOCOMMIT",  # the transaction below is begun and ended by hand
        poolclass=NullPool,
        connect_args={"timeout": LOCK_WAIT_SECONDS_MAX},
    )
    try:
        with engine.connect() as connection:
            _refuse_newer(
                connection, path
            )  # before anything is set: a file that is refused stays as it is, byte for byte
            connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")  # in an empty file; archiving returns space
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")  # kept in the file; cannot be set in a transaction
            connection.exec_driver_sql("PRAGMA synchronous = FULL")
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            try:
                revision = _upgrade(connection, path)
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            if connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() != _INCREMENTAL:
                connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")
                connection.exec_driver_sql("VACUUM")  # only so does a file of the first version change
    except DBAPIError as error:
        raise _failure(error, path) from error
    finally:
        engine.dispose()
    return revision


def _upgrade(connection: Connection, path: Path) -> str:
    _refuse_newer(connection, path)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return newest()


def _refuse_newer(connection: Connection, path: Path) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    found = MigrationContext.configure(connection).get_current_heads()
    if not known.issuperset(found):
        raise SchemaUnknown(
            f"{path} was written by a newer LLMux: its tables are of version '{printable(', '.join(found), 40)}', and this "
            f"program knows versions up to {newest()}. Start the newer LLMux again, or set LLMUX_DATA_DIR to another directory."
        )


def _config() -> Config:
    config = Config()
    here = str(Path(__file__).parent).replace("%", "%%")  # the value goes through configparser
    config.set_main_option("script_location", here)
    config.set_main_option("path_separator", "os")
    return config


def _make(path: Path) -> None:
    """Makes the file before SQLite does, because SQLite would let everybody read it."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigurationWrong(
            f"The event log {path} cannot be opened: {error.strerror}. Set LLMUX_DATA_DIR to a directory that this user can write."
        ) from None


def _failure(error: DBAPIError, path: Path) -> StoreFailure:
    name = getattr(error.orig, "sqlite_errorname", "")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return LogDamaged(
            f"{path} is no database, or a damaged one ({name}). Restore it from a backup, or move it away."
        )
    if name.startswith("SQLITE_BUSY"):
        return StoreFailure(f"{path} is locked by another program ({name}); its tables cannot be brought up to date.")
    return StoreFailure(f"The tables in {path} cannot be brought up to date ({name or type(error.orig).__name__}).")
