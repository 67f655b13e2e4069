"""/v1/responses as OpenAI's clients read it: whole, streamed, continued, read again and deleted."""

import json
from typing import Any

import msgspec
import pytest
import trio

from llmux.actors.key_registry import IssueKey
from llmux.http.openai.responses.events import ResponseEvent
from llmux.http.openai.responses.object import ResponseObject
from llmux.http.streams import KEEP_ALIVE
from tests.http.served import Reply, connected, gateway, settings_of

PATH = "/v1/responses"


def body(model: str = "auto", input: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"model": model, "input": input, **more}


def events_of(reply: Reply) -> list[Any]:
    """The data of all events; each has the name that its type is."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = []
    for frame in reply.body.decode().split("\n\n")[:-1]:
        if frame.startswith(":"):
            continue
        name, data = frame.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        msgspec.json.decode(data.removeprefix("data: "), type=ResponseEvent)
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def text_of(response: Any) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


async def test_a_response_has_openais_fields_and_real_usage(door):
    wished = {"instructions": "Be brief.", "metadata": {"a": "b"}, "user": "ann", "reasoning": {"effort": "low"}}
    reply = await door.post(PATH, body("reason=let+me+see,say=42", temperature=0.5, top_logprobs=2, **wished))
    got = reply.json
    assert reply.status == 200
    assert msgspec.json.encode(msgspec.json.decode(reply.body, type=ResponseObject)) == reply.body
    id = got["id"].removeprefix("resp_")
    assert got["id"] == "resp_" + reply.headers["x-request-id"].replace("-", "")
    assert got["output"] == [
        {
            "type": "reasoning",
            "id": f"rs_{id}",
            "summary": [{"type": "summary_text", "text": "let me see"}],
            "status": "completed",
            "encrypted_content": None,
        },
        {
            "type": "message",
            "id": f"msg_{id}_1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "42", "annotations": [], "logprobs": []}],
            "status": "completed",
        },
    ]
    assert got["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 7,
    }
    assert (got["object"], got["status"], got["model"]) == ("response", "completed", "reason=let+me+see,say=42")
    assert (got["error"], got["incomplete_details"], got["previous_response_id"]) == (None, None, None)
    assert (got["tools"], got["tool_choice"], got["parallel_tool_calls"]) == ([], "auto", True)
    assert (got["temperature"], got["top_p"], got["max_output_tokens"]) == (0.5, None, None)
    assert (got["text"], got["truncation"], got["store"]) == ({"format": {"type": "text"}}, "disabled", True)
    assert got["reasoning"] == {"effort": "low", "summary": None}
    assert {name: got[name] for name in ("instructions", "metadata", "user")} == {
        name: wished[name] for name in ("instructions", "metadata", "user")
    }
    assert isinstance(got["created_at"], int)
    assert got["completed_at"] >= got["created_at"]
    assert set(got["_meta"]) == {"provider", "attempts", "duration_ms", "request_id", "cached", "ignored"}
    assert got["_meta"]["ignored"] == ["top_logprobs", "temperature", "reasoning_effort"]
    assert reply.headers["x-llmux-ignored"] == "top_logprobs, temperature, reasoning_effort"
    assert reply.headers["x-llmux-provider"] == "claude"


async def test_a_stream_tells_its_events_in_openais_order_and_ends_without_done(door):
    reply = await door.post(PATH, body("reason=hm,say=one+two", stream=True))
    events = events_of(reply)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert b"[DONE]" not in reply.body
    first, last = events[0]["response"], events[-1]["response"]
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
    assert "_meta" not in first
    assert last["output"] == [events[7]["item"], events[14]["item"]]
    assert last["_meta"]["provider"] == "claude"
    assert {**last, "output": [], "usage": None, "status": "in_progress", "completed_at": None, "_meta": 0} == {
        **first,
        "_meta": 0,
    }


async def test_streamed_or_not_it_is_the_same_response(door):
    told = (await door.post(PATH, body("reason=hm,say=one+two"))).json
    streamed = events_of(await door.post(PATH, body("reason=hm,say=one+two", stream=True)))[-1]["response"]
    assert streamed["_meta"]["cached"] is True
    varying = ("created_at", "completed_at", "_meta")
    for each in (told, streamed):
        each["output"] = [{**item, "id": ""} for item in each["output"]]
        each.update(dict.fromkeys((*varying, "id")))
    assert streamed == told


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (body("echo", "one two three", max_output_tokens=2), "max_output_tokens"),
        (body("gemini/finish=content_filter,say=no+more"), "content_filter"),
    ],
)
async def test_an_answer_that_was_cut_is_incomplete_and_says_why(door, asked, reason):
    whole = (await door.post(PATH, asked)).json
    last = events_of(await door.post(PATH, {**asked, "stream": True}))[-1]
    assert last["type"] == "response.incomplete"
    for response in (whole, last["response"]):
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": reason})
        assert (response["output"][0]["status"], response["completed_at"]) == ("incomplete", None)
        assert (await door.get(f"{PATH}/{response['id']}")).json == response


async def test_an_answer_that_breaks_off_is_an_error_then_failed_and_is_not_kept(door):
    events = events_of(await door.post(PATH, body("gemini/say=one+two+three,fail=crashed,after=2", stream=True)))
    error, failed = events[-2:]
    assert error["type"] == "error"
    assert set(error["error"]) == {"code", "message", "type", "param"}
    assert (error["code"], error["error"]["type"]) == ("provider_crashed", "server_error")
    assert (error["message"], error["param"]) == (error["error"]["message"], None)
    response = failed["response"]
    assert (failed["type"], response["status"], response["error"]) == ("response.failed", "failed", error["error"])
    assert (text_of(response), response["output"][0]["status"]) == ("one two ", "incomplete")
    assert (await door.get(f"{PATH}/{response['id']}")).status == 404


async def test_a_failure_before_the_first_chunk_has_its_own_status(door):
    reply = await door.post(PATH, body("gemini/fail=context_too_long", stream=True))
    assert (reply.status, reply.json["error"]["code"]) == (400, "context_length_exceeded")
    assert (await door.post(PATH, body("no-such-model"))).json["error"]["param"] == "model"


async def test_a_failure_after_silence_is_a_response_that_failed(door, virtual_time):
    """The head went out with a comment, so the status cannot tell it any more."""
    reply = await door.post(PATH, body("gemini/delay=20000,fail=refused", stream=True))
    assert reply.body.startswith(KEEP_ALIVE)
    events = events_of(reply)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]
    assert events[-1]["response"]["output"] == []


async def test_going_on_from_a_response_is_the_same_request_as_sending_the_conversation(door):
    """The cache knows requests by their canonical prompt: it has the answer to the one when the other is asked."""
    first = (await door.post(PATH, body("reason=hm,say=one", instructions="Be brief."))).json
    second = (await door.post(PATH, body("say=two", "and then?", previous_response_id=first["id"]))).json
    assert (second["previous_response_id"], second["instructions"]) == (first["id"], None)
    user = {"role": "user", "content": "hi"}
    sent = [user, *first["output"], {"role": "user", "content": [{"type": "input_text", "text": "and then?"}]}]
    same = (await door.post(PATH, body("say=two", sent))).json
    assert (second["_meta"]["cached"], same["_meta"]["cached"]) == (False, True)
    streamed = await door.post(PATH, body("say=two", "and then?", previous_response_id=first["id"], stream=True))
    assert events_of(streamed)[-1]["response"]["_meta"]["cached"] is True
    third = await door.post(PATH, body("echo", "now", previous_response_id=events_of(streamed)[-1]["response"]["id"]))
    assert third.json["usage"]["input_tokens"] == len(["hi", "one", "and", "then?", "two", "now"])


async def test_a_kept_response_can_be_read_and_deleted(door):
    response = (await door.post(PATH, body())).json
    page = f"{PATH}/{response['id']}"
    assert (await door.get(page)).json == response
    assert (await door.get(f"{page}?stream=true")).json["error"]["param"] == "stream"
    deleted = await door.get(page, method="DELETE")
    assert deleted.json == {"id": response["id"], "object": "response", "deleted": True}
    for method, where in (("GET", page), ("DELETE", page), ("GET", f"{page}/input_items")):
        gone = await door.get(where, method=method)
        assert (gone.status, gone.json["error"]["code"]) == (404, "response_not_found")
    unknown = await door.post(PATH, body(previous_response_id=response["id"]))
    error = unknown.json["error"]
    assert (unknown.status, error["code"]) == (400, "previous_response_not_found")
    assert (error["type"], error["param"]) == ("invalid_request_error", "previous_response_id")


async def test_what_a_response_was_made_from_is_listed_in_pages(door):
    first = (
        await door.post(PATH, body("say=ho", [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]))
    ).json
    second = (await door.post(PATH, body("say=he", "now?", previous_response_id=first["id"]))).json
    path = f"{PATH}/{second['id']}/input_items"
    everything = (await door.get(f"{path}?order=asc")).json
    assert [(item["role"], item["content"][0]["text"]) for item in everything["data"]] == [
        ("system", "s"),
        ("user", "hi"),
        ("assistant", "ho"),
        ("user", "now?"),
    ]
    assert (everything["object"], everything["has_more"]) == ("list", False)
    newest = (await door.get(f"{path}?limit=1")).json
    assert (newest["data"], newest["has_more"]) == (everything["data"][-1:], True)
    older = (await door.get(f"{path}?limit=100&after={newest['last_id']}")).json
    assert (older["data"], older["has_more"]) == (everything["data"][-2::-1], False)
    assert (older["first_id"], older["last_id"]) == (older["data"][0]["id"], older["data"][-1]["id"])
    for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=nothing"):
        assert (await door.get(f"{path}?{query}")).json["error"]["param"] == query.partition("=")[0]


async def test_nothing_is_kept_where_the_client_does_not_want_it(door):
    response = (await door.post(PATH, body(store=False))).json
    assert response["store"] is False
    assert (await door.get(f"{PATH}/{response['id']}")).status == 404
    assert door.system.responses.statistics().responses == 0


async def test_an_answer_that_its_client_left_is_not_kept(served):
    async with connected(served) as client:
        await client.ask("POST", PATH, json.dumps(body("chunks=200,gap=50", stream=True)).encode())
        await client.head()
        await client.event()
    await served.until("RequestCancelled")
    assert served.system.responses.statistics().responses == 0


async def test_a_response_is_kept_for_its_time_and_no_text_of_it_is_in_the_log(tmp_path, virtual_time):
    async with gateway(settings_of(tmp_path, limits={"kept_responses_ms_max": 10_000})) as here:
        response = (await here.post(PATH, body("say=a+word+nobody+else+says", "a+question"))).json
        page = f"{PATH}/{response['id']}"
        assert (await here.get(page)).status == 200
        await trio.sleep(11)
        assert (await here.get(page)).status == 404
    files = [each.read_bytes() for each in (tmp_path / "data").rglob("*") if each.is_file()]
    assert files
    assert not any(b"a word nobody else says" in each or b"a+question" in each for each in files)


async def test_another_project_cannot_read_delete_or_continue_a_response(tmp_path):
    async with gateway(settings_of(tmp_path, api_key_required=True)) as here:
        mine, ours, theirs = [
            {"authorization": f"Bearer {issued.secret_key}"}
            for issued in [
                await here.system.key_registry.ask(IssueKey(user=user, project=project))
                for user, project in (("ann", "one"), ("bob", "one"), ("eve", "two"))
            ]
        ]
        response = (await here.post(PATH, body(), mine)).json
        page = f"{PATH}/{response['id']}"
        for method, path in (("GET", page), ("DELETE", page), ("GET", f"{page}/input_items")):
            assert (await here.get(path, theirs, method)).status == 404
        follow = body("echo", "go on", previous_response_id=response["id"])
        assert (await here.post(PATH, follow, theirs)).json["error"]["code"] == "previous_response_not_found"
        reference = body(
            "echo", [{"type": "item_reference", "id": response["output"][0]["id"]}, {"role": "user", "content": "x"}]
        )
        assert (await here.post(PATH, reference, theirs)).json["error"]["code"] == "item_not_found"
        assert (await here.post(PATH, follow, ours)).status == 200
        assert (await here.post(PATH, reference, mine)).status == 200
        assert (await here.get(page)).status == 401
