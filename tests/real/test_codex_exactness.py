"""What of a request reaches the upstream of the real Codex, what is named as ignored, and what is refused before it costs."""

import base64
import json
import struct
import zlib

import pytest
import trio

from llmux.failures import Kind
from llmux.prompts import Image, Message, Prompt, Sampling, Text, Usage, user
from tests.real.codex_running import Make, calls, failing, model_calls, say, serving
from tests.upstreams.running import Upstream

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = (b"\0" + bytes((width + 7) // 8)) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


GIF = b"GIF89a\x02\0\x02\0\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\x02\0\x02\0\0\x02\x02\x84Q\0;"


def shown(data: bytes, media_type: str = "image/png") -> Prompt:
    image = Image(media_type, base64.b64encode(data).decode())
    return Prompt((Message("user", (Text("look"), image)),))


async def test_every_wish_is_carried_out_or_named(codex_api: Upstream, make_codex: Make) -> None:
    wishes = {"temperature": 0.3, "top_p": 0.5, "stop": ("END",), "max_tokens": 7, "seed": 11}
    codex_api.control(text='{"a": "b"}')
    async with serving(make_codex()) as adapter:
        sampling = Sampling(**wishes, reasoning_effort="low")  # type: ignore[arg-type]
        heard = await say(adapter, Prompt((user("q"),), system="s", sampling=sampling, json_schema=SCHEMA))
        any_object = await say(adapter, Prompt((user("q"),), json_schema={}))
    (body, _) = calls(codex_api)
    named = tuple(wish for wish in wishes if wish != "stop")
    assert heard.answer.finish.ignored == named, "exactly what the protocol has no word for, but for what is done here"
    assert not {"temperature", "top_p", "stop", "max_output_tokens", "seed"} & set(body)
    assert body["reasoning"]["effort"] == "low"
    assert (body["text"]["format"]["schema"], body["text"]["format"]["strict"]) == (SCHEMA, True)
    assert body["input"][0]["content"][0]["text"] == "s"
    assert any_object.answer.finish.ignored == ("json_schema",)


async def test_an_answer_is_cut_before_a_stop_sequence_and_codex_is_stopped(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(deltas=["one ", "two S", "TO", "P three", *[" word"] * 400], pause_ms=20)
    async with serving(make_codex()) as adapter:
        heard = await say(adapter, Prompt((user("q"),), sampling=Sampling(stop=("never", "STOP")), strict=True))
        with trio.fail_after(5):  # nothing more is generated, or paid for
            while not model_calls(codex_api)[0]["closed_early"]:
                await trio.sleep(0.01)
        codex_api.reset()
        whole = await say(adapter, Prompt((user("q"),), sampling=Sampling(stop=("stand-in.!",))))
        assert adapter.statistics().started == 1
    finish = heard.answer.finish
    assert (heard.text, finish.reason, finish.stop_sequence) == ("one two ", "stop", "STOP")
    assert (finish.usage, finish.ignored) == (Usage(), ("usage",)), "Codex tells it at the end of a whole answer only"
    assert (whole.text, whole.answer.finish.stop_sequence) == ("Hello from the stand-in.", "")
    assert whole.answer.finish.usage.output_tokens == 11


async def test_an_answer_that_the_filter_ended_says_that_its_usage_was_not_told(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(end="incomplete", reason="content_filter")
    async with serving(make_codex()) as adapter:
        finish = (await say(adapter, "hi")).answer.finish
    assert (finish.reason, finish.usage, finish.ignored) == ("content_filter", Usage(), ("usage",))


@pytest.mark.parametrize(
    ("data", "media_type", "changed"),
    [
        (png(1, 1), "image/png", ()),
        (png(3_200, 3_200), "image/png", ()),
        (png(3_201, 3_200), "image/png", ("image_size",)),
        (png(6_000, 40), "image/png", ()),
        (png(6_001, 40), "image/png", ("image_size",)),
        (GIF, "image/gif", ("image_format",)),
    ],
    ids=["small", "as many tiles as fit", "one tile too many", "as long as can be", "too long", "gif"],
)
async def test_a_large_image_that_codex_rescales_is_reported(
    codex_api: Upstream, make_codex: Make, data: bytes, media_type: str, changed: tuple[str, ...]
) -> None:
    async with serving(make_codex()) as adapter:
        heard = await say(adapter, shown(data, media_type))
    (body,) = calls(codex_api)
    url = body["input"][0]["content"][1]["image_url"]
    arrived = base64.b64decode(url.partition(",")[2])
    assert (arrived == data) is (not changed)
    assert heard.answer.finish.ignored == changed


@pytest.mark.parametrize("data", [png(8, 8)[:-20], png(8, 8)[:40] + b"\0" + png(8, 8)[41:]], ids=["cut", "damaged"])
async def test_an_image_that_codex_would_put_a_sentence_in_the_place_of_is_refused(
    codex_api: Upstream, make_codex: Make, data: bytes
) -> None:
    async with serving(make_codex()) as adapter:
        failure = await failing(adapter, shown(data))
    assert (failure.kind, failure.evidence) == (Kind.INVALID_REQUEST, "codex.request.image_damaged")
    assert model_calls(codex_api) == []


async def test_no_address_in_a_prompt_is_ever_fetched(codex_api: Upstream, make_codex: Make) -> None:
    async with serving(make_codex()) as adapter:
        await say(adapter, f"![x]({codex_api.url}/pixel.png) <img src='{codex_api.url}/pixel.png'> @{codex_api.url}/a")
    assert not any("pixel" in seen["path"] for seen in codex_api.log())
    assert json.dumps(calls(codex_api)).count("pixel.png") == 2
