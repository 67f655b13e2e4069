"""The file of kept texts: what goes in comes out as it was, and what is forgotten is in no byte of any file."""

import random
import re
import sqlite3
import stat
from pathlib import Path

import pytest
import trio

from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import ContentForgotten
from llmux.eventstore import CONTENT_FILE, ContentStore, Forgetting, Keeping, KeptContent, KeptText, open_content
from llmux.eventstore.content_file import PAGE_BYTES
from llmux.failures import SchemaUnknown, StoreFailure, StoreFull
from llmux.prompts import Image, Message, Prompt, Sampling, Text, Tool, ToolCall, ToolChoice, ToolResult, user

CLOCK = SeededClock(8)
LATE = 10**15


def kept(request: str, text: str = "hello", *, key: str = "k", at: int = 1000, until: int = LATE) -> KeptContent:
    return KeptContent(request, key, at, until, "stop", "", KeptText(Prompt((user(text),)), f"answer to {text}"))


def forgetting(**fields) -> Forgetting:
    (scope,) = [name for name in ("request", "key", "before") if name in fields] or ["retention"]
    fact = ContentForgotten(scope=fields.pop("scope", scope), answers=0, **fields)
    return Forgetting(CLOCK.new_id(), "admin", fact)


async def forget(store: ContentStore, *, now: int = 0, **fields) -> int:
    """Forgets and settles; returns how many texts."""
    pending = await store.forget(forgetting(**fields), now)
    for each in pending:
        await store.recorded(each.event_id)
    return sum(each.fact.answers for each in pending)


def bytes_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.iterdir()))


def canaries(directory: Path) -> set[str]:
    return {each.decode() for each in re.findall(rb"CANARY\d{6}X", bytes_of(directory))}


async def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    call = ToolCall("c1", "look", '{"at": "x"}')
    prompt = Prompt(
        (
            Message("user", (Text("see"), Image("image/png", "aGk="))),
            Message("assistant", (call,)),
            Message("user", (ToolResult("c1", (Text("nothing"), Image("image/png", "aGk=")), is_error=True),)),
        ),
        "be brief",
        Sampling(temperature=0.5, stop=("x",)),
        {"type": "object"},
        (Tool("look", "looks", {"type": "object"}),),
        ToolChoice("required", ("look",)),
    )
    content = KeptContent("r", "k", 1, 2, "tool_calls", "", KeptText(prompt, "é\x00\n", "hm", (call,)))
    async with open_content(tmp_path, Limits()) as store:
        assert await store.keep([content]) == Keeping(kept=1)
        assert await store.read("r") == content
        assert await store.read("another") is None
    async with open_content(tmp_path, Limits()) as store:
        assert await store.read("r") == content


async def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits()) as store:
        assert await store.read("r") is None
        assert await forget(store, key="k") == 0
        assert await store.keep([]) == Keeping()
        assert list(tmp_path.iterdir()) == []
        await store.keep([kept("r")])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys((CONTENT_FILE, f"{CONTENT_FILE}-wal", f"{CONTENT_FILE}-shm"), 0o600)


async def test_a_request_is_kept_once(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits()) as store:
        await store.keep([kept("r", "first")])
        await store.keep([kept("r", "second"), kept("s")])
        found = await store.read("r")
        assert found is not None
        assert found.text.answer == "answer to first"
        assert await store.read("s") is not None


async def test_each_scope_deletes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    rows = [kept(f"{key}{at}", key=key, at=at, until=at + 50) for key in "ab" for at in (10, 20, 30)]

    async def left(**fields) -> str:
        async with open_content(tmp_path, Limits()) as store:
            await store.keep(rows)
            now = fields.pop("now", 0)
            count = await forget(store, now=now, **fields)
            left = [row.request for row in rows if await store.read(row.request)]
            assert count == len(rows) - len(left)
            assert await forget(store, now=now, **fields) == 0, "a second time there is nothing to forget"
            return " ".join(left)

    assert await left(request="a10") == "a20 a30 b10 b20 b30"
    assert await left(key="a") == "b10 b20 b30"
    assert await left(before=20) == "a20 a30 b20 b30"
    assert await left(scope="retention", now=70) == "a30 b30"
    assert await left(scope="retention", before=30, now=0) == "a30 b30"
    assert await left(request="nobody's") == "a10 a20 a30 b10 b20 b30"


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_forgotten_is_in_no_byte_of_any_file(tmp_path: Path, seed: int) -> None:
    """Many short and long texts come and go in a random order."""
    print("seed", seed)
    chance = random.Random(seed)
    alive: set[str] = set()
    made = 0
    async with open_content(tmp_path, Limits()) as store:
        for _ in range(25):
            rows = []
            for _ in range(chance.randrange(1, 25)):
                made += 1
                canary = f"CANARY{made:06d}X"
                size = chance.choice((1, 5, 20, 60, 150, 1000, 6000))
                rows.append(kept(f"r{made}", canary * chance.randrange(1, size + 1), key=str(made % 3), at=made))
                alive.add(canary)
            await store.keep(rows)
            for canary in chance.sample(sorted(alive), min(len(alive), chance.randrange(12))):
                assert await forget(store, request=f"r{int(canary[6:12])}") == 1
                alive.discard(canary)
            if chance.random() < 0.2:
                oldest = made - 60
                await forget(store, before=oldest)
                alive = {each for each in alive if int(each[6:12]) >= oldest}
            assert canaries(tmp_path) <= alive
        assert [each for each in sorted(alive) if await store.read(f"r{int(each[6:12])}") is None] == []
    assert canaries(tmp_path) <= alive


async def test_no_text_is_in_a_page_that_rows_share(tmp_path: Path) -> None:
    """What SQLite moves about in its trees it may leave copies of. A page of a tree begins with its kind (2, 5, 10 or 13), one
    that belongs to a single row with the high byte of a page's number, which is 0 in a small file."""
    async with open_content(tmp_path, Limits()) as store:
        await store.keep([kept(f"r{n}", "CANARY000000X" * (1 + n * n // 20), key=str(n)) for n in range(100)])
        for n in range(0, 100, 3):
            await forget(store, key=str(n))
    data = (tmp_path / CONTENT_FILE).read_bytes()
    pages = [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]
    assert {page[0] for page in pages[2:]} >= {
        0,
        10,
        13,
    }  # the first one has the file's own head, the second maps the others
    assert {page[0] for page in pages if b"CANARY000000X" in page} == {0}


async def test_forgotten_room_goes_back_to_the_file_system(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits()) as store:
        await store.keep([kept(f"r{n}", "x" * 50_000) for n in range(40)])
        await forget(store, request="r0")
        full = store.file_bytes
        assert full > 2_000_000
        await forget(store, key="k")
        assert store.file_bytes < 20_000


async def test_a_deletion_comes_back_until_it_is_recorded(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits()) as store:
        await store.keep([kept("r"), kept("s")])
        first = forgetting(request="r")
        (owed,) = await store.forget(first, 0)
        assert (owed.event_id, owed.principal, owed.fact.answers) == (first.event_id, "admin", 1)
    async with open_content(tmp_path, Limits()) as store:  # after a crash, for example
        again = await store.forget(forgetting(request="s"), 0)
        assert [each.fact.request for each in again] == ["r", "s"]
        assert again[0] == owed
        for each in again:
            await store.recorded(each.event_id)
        assert await store.forget(forgetting(request="r"), 0) == []


async def test_a_text_that_is_too_large_is_left_out_alone(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits(content_row_bytes_max=5000)) as store:
        rows = [kept("small"), kept("large", "x" * 3000), kept("other")]
        assert await store.keep(rows) == Keeping(kept=2, too_large=1)
        assert await store.read("large") is None
        assert await store.read("other") is not None


async def test_the_file_stays_within_its_budget_and_takes_up_again_when_there_is_room(tmp_path: Path) -> None:
    budget = 200_000
    async with open_content(tmp_path, Limits(content_bytes_max=budget)) as store:
        done = await store.keep([kept(f"r{n}", "x" * 10_000) for n in range(30)])
        assert done.kept == await forget(store, key="k") > 3
        assert done.no_room == 30 - done.kept
        for n in range(30):
            await store.keep([kept(f"s{n}", "x" * 10_000)])
            await forget(store, before=0)
            assert store.file_bytes <= budget
        assert await store.keep([kept("t", "x" * 10_000)]) == Keeping(no_room=1)
        await forget(store, request="s0")
        assert await store.keep([kept("t", "x" * 9_000)]) == Keeping(kept=1)


async def test_a_reader_that_holds_on_to_the_old_text_is_told_of_and_the_fact_waits(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits(busy_ms_max=1)) as store:
        await store.keep([kept("r", "canary"), kept("s")])
        foreign = sqlite3.connect(tmp_path / CONTENT_FILE)
        try:
            foreign.execute("BEGIN")
            foreign.execute("SELECT count(*) FROM kept").fetchone()
            with pytest.raises(StoreFailure, match="another program reads"):
                await store.forget(forgetting(request="r"), 0)
            assert await store.read("r") is None
        finally:
            foreign.close()
        assert await forget(store, request="r") == 1
        assert b"canary" not in bytes_of(tmp_path)


async def test_a_file_of_a_newer_llmux_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits()) as store:
        await store.keep([kept("r")])
    foreign = sqlite3.connect(tmp_path / CONTENT_FILE)
    foreign.execute("PRAGMA user_version = 2")
    foreign.close()
    before = (tmp_path / CONTENT_FILE).read_bytes()
    async with open_content(tmp_path, Limits()) as store:
        for work in (store.keep([kept("s")]), store.read("r"), store.forget(forgetting(key="k"), 0)):
            with pytest.raises(SchemaUnknown, match="newer LLMux"):
                await work
    assert (tmp_path / CONTENT_FILE).read_bytes() == before


async def test_what_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / CONTENT_FILE).write_bytes(b"no database at all, and long enough to be read as one" * 100)
    async with open_content(tmp_path, Limits()) as store:
        with pytest.raises(StoreFailure, match="damaged"):
            await store.keep([kept("r")])
    assert (tmp_path / CONTENT_FILE).read_bytes().startswith(b"no database")


async def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    async with open_content(tmp_path / "nowhere", Limits()) as store:
        with pytest.raises(StoreFailure, match="cannot be opened"):
            await store.keep([kept("r")])


async def test_a_full_disk_is_told_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits()) as store:
        await store.keep([kept("r")])

        async def pages(limit: int) -> None:
            async def work() -> None:
                assert store._connection is not None
                await store._connection.execute_fetchall(f"PRAGMA max_page_count = {limit}")

            await store._thread.run(work)

        await pages(1)
        with pytest.raises(StoreFull, match="disk is full"):
            await store.keep([kept("s", "x" * 100_000)])
        await pages(1_000_000)
        assert await store.keep([kept("s", "x" * 100_000)]) == Keeping(kept=1)
        assert await store.read("r") is not None


async def test_a_foreign_lock_fails_one_batch_and_not_the_next(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits(busy_ms_max=1)) as store:
        await store.keep([kept("r")])
        foreign = sqlite3.connect(tmp_path / CONTENT_FILE, isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailure, match="locked by another program"):
            await store.keep([kept("s")])
        foreign.close()
        assert await store.keep([kept("s")]) == Keeping(kept=1)


async def test_a_caller_that_is_cancelled_never_reaches_the_transaction(tmp_path: Path) -> None:
    async with open_content(tmp_path, Limits()) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.keep([kept("r")])
        assert scope.cancelled_caught
        assert await store.read("r") is not None
