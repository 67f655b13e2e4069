"""What was spent, over HTTP: all of it for the admin, and one's own for whoever may use the gateway."""

from decimal import Decimal

import msgspec
import pytest

from llmux.actors.estimates import Prices
from llmux.actors.usage import DIMENSIONS
from llmux.actors.usage_report import Question, UsageReport, report
from llmux.config.prices import Price, PriceList
from tests.actors.test_usage import counted
from tests.http.served import gateway, settings_of

ADMIN = {"x-admin-key": "an-admin-key-for-tests-0001"}
PRICES = PriceList("2026-10-01", {"say=*": Price(input=Decimal(1), output=Decimal(3))})
ONE = "say=one+two+three"


@pytest.fixture
async def shop(tmp_path):
    """Ann asked twice (once from the cache) and failed once, Bob asked once; `here.ann` and `here.bob` are their headers."""
    settings = settings_of(tmp_path, api_key_required=True, admin_key=ADMIN["x-admin-key"], prices=PRICES)
    async with gateway(settings) as here:
        for name in ("ann", "bob"):
            body = (await here.post("/admin/api-keys", {"userId": name, "projectId": "poems"}, ADMIN)).json
            setattr(here, name, {"authorization": f"Bearer {body['apiKey']}"})
            setattr(here, f"{name}_id", body["id"])
        for headers, model, status in (
            (here.ann, ONE, 200),
            (here.ann, ONE, 200),
            (here.ann, "fail=refused", 400),
            (here.bob, "echo", 200),
        ):
            reply = await here.post("/api/smart", {"prompt": "a b", "options": {"model": model}}, headers)
            assert reply.status == status, reply
        yield here


async def told(here, path: str, headers: dict[str, str]):
    reply = await here.get(path, headers)
    assert reply.status == 200, reply
    return reply.json


async def test_the_admin_sees_what_everybody_spent_by_any_dimension(shop):
    history = await shop.system.journal.store.read(limit=1000)
    for by in ((), *((name,) for name in DIMENSIONS), ("user", "model")):
        found = await told(shop, f"/admin/usage?by={','.join(by)}" if by else "/admin/usage", ADMIN)
        expected = counted(history, by)
        groups = {(*row["group"].values(), row["principal"]): row["figures"] for row in found["rows"]}
        assert found["by"] == list(by)
        assert groups.keys() == expected.keys()
        for group, figures in groups.items():
            assert figures == {name: expected[group][_snake(name)] for name in figures}
    assert found["total"]["figures"]["requests"] == 4


def _snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)


async def test_whoever_asks_sees_what_their_own_key_spent_and_nothing_else(shop):
    ann = await told(shop, "/v1/usage?by=key,model", shop.ann)
    assert {row["group"]["key"] for row in ann["rows"]} == {shop.ann_id}
    figures = ann["total"]["figures"]
    assert (figures["requests"], figures["cached"], figures["failed"], figures["outputTokens"]) == (3, 1, 1, 3)
    bob = await told(shop, "/v1/usage?by=user", shop.bob)
    assert [(row["group"]["user"], row["figures"]["requests"]) for row in bob["rows"]] == [("bob", 1)]
    whole = (await told(shop, "/admin/usage", ADMIN))["total"]["figures"]
    assert all(whole[name] == figures[name] + bob["total"]["figures"][name] for name in figures)


async def test_an_estimate_has_its_day_and_says_what_it_leaves_out(shop):
    ann = await told(shop, "/v1/usage", shop.ann)
    figures = ann["total"]["figures"]
    expected = (figures["inputTokens"] + Decimal(3) * figures["outputTokens"]) / 10**6
    assert (ann["currency"], Decimal(ann["total"]["estimatedUsd"])) == ("USD", expected)
    assert (ann["total"]["pricesDate"], ann["total"]["unpricedTokens"]) == ("2026-10-01", 0)
    bob = (await told(shop, "/v1/usage", shop.bob))["total"]
    assert (bob["estimatedUsd"], bob["pricesDate"]) == (None, None)
    assert bob["unpricedTokens"] == bob["figures"]["inputTokens"] + bob["figures"]["outputTokens"] > 0


async def test_the_past_is_told_as_it_was_known(shop):
    history = await shop.system.journal.store.read(limit=1000)
    end = next(event for event in history if event.type == "RequestCompleted")
    past = await told(shop, f"/admin/usage?at={end.position}", ADMIN)
    assert (past["position"], past["total"]["figures"]["requests"]) == (end.position, 1)
    assert (await told(shop, "/v1/usage?at=1970-01-01T00:00:00Z", shop.ann))["position"] == 0


async def test_a_time_without_use_is_an_empty_answer(shop):
    for query in ("to=2020-01-01", "from=2020-01-01&to=2020-01-02", "at=0"):
        found = await told(shop, f"/admin/usage?by=user&{query}", ADMIN)
        assert found["rows"] == []
        assert set(found["total"]["figures"].values()) == {0}
        assert (found["total"]["estimatedUsd"], found["total"]["pricesDate"]) == ("0.000000", None)
    found = await told(shop, "/admin/usage?from=7d&to=0d", ADMIN)
    assert found["from"] < found["to"]
    assert found["total"]["figures"]["requests"] == 4


UNANSWERABLE = (
    ("by=colour", "by", "usage is not known by 'colour', but by day, key, user"),
    ("by=user,", "by", "usage is not known by ''"),
    ("by=", "by", "it is empty"),
    ("by=user&by=model", "by", "at most 1"),
    ("from=yesterday", "from", "'yesterday' is no day"),
    ("to=2026-13-01", "to", "is no day"),
    ("from=2026-11-22&to=2026-11-21", "from", "it is later than to"),
    ("at=soon", "at", "neither a position"),
    ("at=9999", "at", "the log ends at position"),
    ("user=bob", "user", "does not know 'user' in its query. It takes: at, by, from, to."),
)


async def test_a_question_that_cannot_be_answered_is_a_sentence_in_the_dialect_of_its_path(shop):
    for query, param, sentence in UNANSWERABLE:
        native = await shop.get(f"/admin/usage?{query}", ADMIN)
        openai = await shop.get(f"/v1/usage?{query}", shop.ann)
        assert (native.status, openai.status) == (400, 400)
        assert (native.json["param"], openai.json["error"]["param"]) == (param, param)
        assert sentence in native.json["error"]
        assert sentence in openai.json["error"]["message"]


async def test_the_terminal_and_http_tell_the_same(shop):
    here = report(shop.system.facts, Question(("user", "model")), Prices(shop.system.settings))
    reply = await shop.get("/admin/usage?by=user,model", ADMIN)
    assert msgspec.json.decode(reply.body, type=UsageReport) == here
    assert reply.headers["cache-control"] == "no-store"


async def test_with_keys_switched_off_everybody_is_local_and_sees_what_local_spent(door):
    await door.post("/claude", {"prompt": "hi"})
    found = await told(door, "/v1/usage?by=key", {})
    assert [(row["group"]["key"], row["figures"]["requests"]) for row in found["rows"]] == [("local", 1)]
    assert (await door.get("/admin/usage")).status == 403
