"""The cache as HTTP shows it: its headers and options, one entry for streams and whole answers, one call for equal requests."""

import trio

from llmux.events import AttemptStarted, RequestAccepted, RequestCompleted
from tests.actors.house import facts_of
from tests.http.served import gateway, settings_of

ASK = {"prompt": "hello"}
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


async def cached(door, headers=None, **body) -> bool:
    """Whether the answer came out of the cache; that it is an answer is checked here."""
    reply = await door.post("/api/smart", {**ASK, **body}, headers)
    assert reply.status == 200, reply
    assert reply.headers["x-llmux-cache"] == ("hit" if reply.json["cached"] else "miss")
    return reply.json["cached"]


async def test_a_stream_and_a_whole_answer_share_an_entry_and_a_streamed_hit_is_streamed(door):
    whole = (await door.post("/api/smart", ASK)).json
    assert whole["cached"] is False
    reply = await door.post("/api/smart", {**ASK, "stream": True})
    assert reply.headers["x-llmux-cache"] == "hit"
    assert "".join(frame.get("content", "") for frame in reply.frames[:-1]) == whole["response"]
    assert (await door.post("/v1/chat/completions", CHAT)).headers["x-llmux-cache"] == "hit", (
        "a dialect is no difference"
    )
    assert len(await facts_of(door.system, AttemptStarted)) == 1
    first, *hits = await facts_of(door.system, RequestCompleted)
    assert first.usage.output_tokens > 0
    assert [(each.source, each.attempts, each.usage.total_tokens) for each in hits] == [("cache", 0, 0)] * 2


async def test_no_cache_gets_a_fresh_answer_that_serves_others(door):
    no_cache = {"cache-control": "max-age=0, No-Cache"}
    assert not await cached(door, no_cache)
    assert await cached(door)
    assert not await cached(door, no_cache)
    assert [each.cache for each in await facts_of(door.system, RequestAccepted)] == ["off", "hit", "off"]


async def test_no_store_neither_reads_nor_keeps(door):
    no_store = {"cache-control": "no-store"}
    assert not await cached(door, no_store)
    assert not await cached(door)
    assert not await cached(door, {"cache-control": "no-store, no-cache"})
    assert not await cached(door, options={"useCache": False})
    assert await cached(door)


async def test_what_only_looks_like_a_directive_is_none(door):
    await cached(door)
    for value in ("x-no-cache", "no-cached", "max-age=0", ""):
        assert await cached(door, {"cache-control": value}), value


async def test_an_answer_can_be_given_its_own_time(tmp_path, virtual_time):
    async with gateway(settings_of(tmp_path)) as door:
        for given in ({"headers": {"x-llmux-cache-ttl": "2"}}, {"options": {"cacheTtl": 2000}}):
            text = {"prompt": str(given)}
            assert not await cached(door, **text, **given)
            await trio.sleep(1.9)
            assert await cached(door, **text)
            await trio.sleep(0.2)
            assert not await cached(door, **text)


async def test_a_time_that_cannot_be_is_refused(door):
    for value in ("0", "-1", "1.5", "soon", "604801", "9" * 12, "9" * 13, "٢"):
        reply = await door.post("/api/smart", ASK, {"x-llmux-cache-ttl": value})
        assert (reply.status, reply.json["param"]) == (400, "x-llmux-cache-ttl"), value
    for value in (0, -1, 604_800_001, 2**70):
        reply = await door.post("/api/smart", {**ASK, "options": {"cacheTtl": value}})
        assert (reply.status, reply.json["param"]) == (400, "options.cacheTtl"), value


async def test_nobody_joins_what_wants_an_answer_of_its_own_into_another(tmp_path):
    settings = settings_of(tmp_path)
    async with gateway(settings) as door, trio.open_nursery() as nursery:
        body = {**ASK, "options": {"model": "claude/say=hi,delay=200"}}
        for control in ({}, {"cache-control": "no-cache"}, {"cache-control": "no-store"}, {}):
            nursery.start_soon(door.post, "/api/smart", body, control)
            await trio.testing.wait_all_tasks_blocked(0.01)
        await door.until("RequestCompleted", 4)
        sources = sorted(each.source for each in await facts_of(door.system, RequestCompleted))
        assert sources == ["flight", "flight", "flight", "joined"]


async def test_20_equal_requests_in_two_dialects_make_one_call_and_each_has_its_own_end(tmp_path):
    async with gateway(settings_of(tmp_path)) as door:
        model = "claude/say=one+answer+for+all,delay=300"
        replies = {}

        async def ask(number: int) -> None:
            if number % 2:
                body = {"model": model, "messages": CHAT["messages"], "stream": number % 4 == 1}
                replies[number] = await door.post("/v1/chat/completions", body)
            else:
                replies[number] = await door.post(
                    "/api/smart", {**ASK, "stream": number % 4 == 0, "options": {"model": model}}
                )

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, number)
        assert {reply.status for reply in replies.values()} == {200}
        assert len({reply.headers["x-request-id"] for reply in replies.values()}) == 20
        for number, reply in replies.items():
            if number % 4 == 0:
                text = "".join(frame.get("content", "") for frame in reply.frames[:-1])
            elif number % 4 == 1:
                deltas = [choice["delta"] for frame in reply.frames[:-1] for choice in frame["choices"]]
                text = "".join(delta.get("content") or "" for delta in deltas)
            elif number % 4 == 2:
                text = reply.json["response"]
            else:
                text = reply.json["choices"][0]["message"]["content"]
            assert text == "one answer for all"
        assert len(await facts_of(door.system, AttemptStarted)) == 1
        completed = await facts_of(door.system, RequestCompleted)
        assert sorted(each.source for each in completed) == ["flight"] + ["joined"] * 19
        assert sum(each.usage.output_tokens for each in completed) == 4


async def test_stats_and_health_say_where_answers_are_and_that_redis_is_away_without_being_unhealthy(tmp_path):
    url = "redis://ann:pass-word@127.0.0.1:9/0"  # the discard service, which nobody runs
    settings = settings_of(tmp_path, redis_url=url, redis_namespace="home", secret="a secret for these tests")
    async with gateway(settings) as door:
        assert not await cached(door)
        assert not await cached(door)
        stats, health = await door.get("/api/cache/stats"), await door.get("/health")
        assert (health.status, health.json["status"]) == (200, "healthy")
        for told in (stats.json, health.json["cache"]):
            assert told["store"] == "redis"
            assert told["redis"]["reachable"] is False
            assert told["redis"]["away"] >= 1
            assert told["size"] == 0
        cleared = await door.post("/api/cache/clear", {})
        assert (cleared.status, cleared.json["code"]) == (503, "shared_cache_away")
        for reply in (stats, health, cleared):
            assert b"pass-word" not in reply.body
            assert b"127.0.0.1:9" not in reply.body
        assert "pass-word" not in repr(door.system.cache.shared)
