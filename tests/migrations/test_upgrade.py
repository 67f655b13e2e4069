"""The tables, from nothing to now, and never backwards."""

import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st

from llmux import eventstore, migrations
from llmux.config import Limits
from llmux.eventstore.table import EVENTS, packed_stream, unpacked_stream
from llmux.failures import ConfigurationWrong, LogDamaged, SchemaUnknown, StoreFailure
from tests.golden.logs import LOGS, unpacked_into


def schema(path: Path) -> list[tuple[str, str, str]]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    connection.close()
    return found


def test_an_empty_place_gets_the_newest_tables(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    assert migrations.upgrade(path) == migrations.newest()
    assert path.stat().st_mode & 0o777 == 0o600
    names = {name for kind, name, _ in schema(path) if kind in ("table", "trigger")}
    assert names == {
        "alembic_version",
        "events",
        "origin",
        "sqlite_sequence",
        "events_are_never_changed",
        "events_are_never_removed",
        "events_have_no_gaps",
    }
    assert not list(tmp_path.glob("*-journal"))


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    migrations.upgrade(path)
    before = schema(path)
    assert migrations.upgrade(path) == migrations.newest()
    assert schema(path) == before


def test_the_store_knows_the_newest_tables() -> None:
    assert migrations.newest() == eventstore.REVISION


def test_the_store_knows_the_columns_of_the_table(tmp_path: Path) -> None:
    migrations.upgrade(tmp_path / "events.db")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/events.db", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("PRAGMA table_info(events)").all()
        strict = connection.exec_driver_sql("SELECT strict FROM pragma_table_list WHERE name = 'events'").scalar_one()
    assert [row.name for row in rows] == [column.name for column in EVENTS.columns]
    assert all(row.notnull or row.pk for row in rows)
    assert strict == 1


def test_two_at_once_do_it_once(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    outcomes: list[object] = []

    def work() -> None:
        try:
            outcomes.append(migrations.upgrade(path))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes == [migrations.newest()] * 4


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    migrations.upgrade(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = schema(path)
    with pytest.raises(SchemaUnknown, match=f"newer LLMux.*9999.*up to {migrations.newest()}"):
        migrations.upgrade(path)
    assert schema(path) == before


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_newer_database_stays_the_same_byte_for_byte(tmp_path: Path, mode: str) -> None:
    """Also where it is a copy that was made without a write-ahead log, which ours would get one."""
    path = tmp_path / "events.db"
    migrations.upgrade(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert connection.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode.lower(),)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaUnknown, match="newer LLMux"):
        migrations.upgrade(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["events.db"]


async def test_who_only_reads_says_what_to_do_about_tables_of_another_version(tmp_path: Path) -> None:
    path = unpacked_into(tmp_path, LOGS[0])
    before = path.read_bytes()
    with pytest.raises(SchemaUnknown, match=r"'0001'.*Start the gateway once"):
        async with eventstore.open_reader(tmp_path, Limits()):
            pass
    assert path.read_bytes() == before
    migrations.upgrade(path)
    async with eventstore.open_reader(tmp_path, Limits()):
        pass
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(SchemaUnknown, match=r"'9999'.*Use the newer LLMux"):
        async with eventstore.open_reader(tmp_path, Limits()):
            pass


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """A database that somebody else filled: our step fails, and all of it is undone."""
    path = tmp_path / "events.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE events (something_else TEXT)")
    connection.close()
    before = schema(path)
    with pytest.raises(StoreFailure, match="cannot be brought up to date"):
        migrations.upgrade(path)
    assert schema(path) == before


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"something else entirely " * 100)
    with pytest.raises(LogDamaged, match="no database"):
        migrations.upgrade(path)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationWrong, match="Set LLMUX_DATA_DIR"):
        migrations.upgrade(tmp_path / "missing" / "events.db")


def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    directory = tmp_path / "a b%(x)s?mode=ro#c"
    directory.mkdir()
    migrations.upgrade(directory / "events.db")
    assert (directory / "events.db").stat().st_size > 0


def test_a_database_of_the_first_version_keeps_every_event(tmp_path: Path) -> None:
    """Only the way in which names of streams are stored changes, and that space is returned after archiving."""
    path = unpacked_into(tmp_path, LOGS[0])
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    connection.execute("UPDATE sqlite_sequence SET seq = seq + 5")  # a tail was cut off, and this shows it
    connection.commit()
    before = connection.execute("SELECT * FROM events ORDER BY position").fetchall()
    (last,) = connection.execute("SELECT seq FROM sqlite_sequence").fetchone()
    connection.close()
    migrations.upgrade(path)
    connection = sqlite3.connect(path)
    after = connection.execute("SELECT * FROM events ORDER BY position").fetchall()
    assert [(row[0], unpacked_stream(row[1]), *row[2:]) for row in after] == before
    assert [row[1] for row in after] == [packed_stream(row[1]) for row in before]
    assert any(isinstance(row[1], bytes) for row in after)
    assert connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall() == [("events", last)]
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    with pytest.raises(sqlite3.IntegrityError, match="never removed"):
        connection.execute("DELETE FROM events")
    connection.close()


def test_a_database_that_was_brought_up_to_date_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    migrations.upgrade(new)
    old = unpacked_into(tmp_path, LOGS[0])
    migrations.upgrade(old)
    without_quotes = [
        [(kind, name, (sql or "").replace('"', "")) for kind, name, sql in schema(db)] for db in (new, old)
    ]
    assert without_quotes[0] == without_quotes[1]


@given(st.sampled_from(["", "a", "request", "log-x"]), st.uuids().map(str) | st.text("0-aF", max_size=40))
def test_the_migration_names_streams_as_the_store_does(category: str, id: str) -> None:
    migration = ScriptDirectory(str(Path(migrations.__file__).parent)).get_revision("0002").module
    name = f"{category}-{id}"
    assert migration.short_stream(name) == packed_stream(name)
    assert unpacked_stream(packed_stream(name)) == name
