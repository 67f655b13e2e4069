"""POST /admin/archive: for the admin alone, and its answer says what was moved."""

import pytest

from llmux.clock import SeededClock
from llmux.events import CacheCleared, NewEvent
from tests.http.served import gateway, settings_of

ADMIN = {"x-admin-key": "an-admin-key-for-tests-0001"}
ARCHIVE = "/admin/archive"


@pytest.fixture
async def old(tmp_path):
    """A gateway that wants keys, with a log of some old events."""
    settings = settings_of(
        tmp_path, api_key_required=True, admin_key=ADMIN["x-admin-key"], api_key="a-key-for-users-0001"
    )
    async with gateway(settings, clock=SeededClock(2)) as here:
        ids = SeededClock(4)
        for number in range(20):
            await here.system.journal.append(NewEvent("cache", CacheCleared(entries=number), ids.new_id()))
        here.system.clock.shift(90 * 86_400_000)
        yield here


async def test_the_answer_says_what_was_moved_and_the_pages_still_have_it(old):
    before = (await old.get("/admin/events?limit=15", ADMIN)).json["events"]
    reply = await old.post(ARCHIVE, {"before": "30d"}, ADMIN)
    assert reply.status == 200
    body = reply.json
    assert body.pop("bytesBefore") >= body.pop("bytesAfter") > 0
    assert body.pop("archiveBytes") > 0
    assert body == {
        "first": 1,
        "through": 21,
        "events": 21,
        "setAside": [],
        "files": ["archives/events-000000000001-000000000021.jsonl.gz"],
    }
    page = (await old.get("/admin/events?limit=15", ADMIN)).json
    assert page["events"] == before
    assert page["archivedThrough"] == 21
    head = (await old.get("/admin/log/head", ADMIN)).json
    assert (head["archivedThrough"], head["archives"], head["events"]) == (21, 1, 1)
    told = (await old.get("/admin/events?type=LogArchived", ADMIN)).json["events"]
    assert [(event["principal"], event["data"]["through"]) for event in told] == [("admin", 21)]
    assert (await old.post(ARCHIVE, {"before": 10}, ADMIN)).json["events"] == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "say how far, such as 30d"),
        ({"before": "soon"}, "is no age such as 30d"),
        ({"before": "99"}, "the log ends at position 21"),
        ({"before": "0h"}, "within the last hour"),
        ({"before": "30d", "file": "/etc/passwd"}, "file"),
        ({"before": ["30d"]}, "before"),
    ],
)
async def test_what_cannot_be_done_is_a_sentence(old, body, said):
    reply = await old.post(ARCHIVE, body, ADMIN)
    assert reply.status == 400
    assert said in reply.json["error"]


async def test_a_users_key_archives_nothing(old):
    for headers in ({}, {"authorization": "Bearer a-key-for-users-0001"}, {"x-admin-key": "another-key-for-tests-01"}):
        assert (await old.post(ARCHIVE, {"before": "30d"}, headers)).status in (401, 403)
    assert not (old.system.settings.data_dir / "archives").exists()
