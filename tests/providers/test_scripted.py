"""The provider that does what its model's name says."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from llmux.config import DEFAULT_PROVIDERS, KINDS, MODEL_NAME
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Finish, Prompt, ReasoningDelta, Sampling, TextDelta, Usage, assistant, user
from llmux.providers.adapter import QuotaWindow
from llmux.providers.registry import adapter_for
from llmux.providers.scripted import ScriptedAdapter
from llmux.providers.scripted_names import Script, script_of
from tests.providers.hearing import Heard, ask, place_of


@pytest.fixture
def adapter(tmp_path):
    return ScriptedAdapter(place_of("scripted", tmp_path))


async def failure(adapter, model: str, heard: Heard | None = None) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await ask(adapter, "one two three four five", model, model, heard)
    return caught.value


@pytest.mark.parametrize(
    ("model", "script"),
    [
        ("echo", Script(echo=True)),
        ("say=hello+world", Script(say="hello world")),
        ("delay=250,say=hi,gap=5", Script(delay=250, say="hi", gap=5)),
        ("fail=quota_exhausted,resets=3600,times=2", Script(fail=Kind.QUOTA_EXHAUSTED, resets=3600, times=2)),
        ("hang,after=3", Script(hang=True, after=3)),
        ("used=91,echo,finish=length,tokens=12", Script(used=91, echo=True, finish="length", tokens=12)),
    ],
)
def test_a_name_is_read_as_a_script(model, script):
    assert script_of(model) == script
    assert MODEL_NAME.fullmatch(model), "a script can be asked for like any model"


@pytest.mark.parametrize(
    "model",
    [
        *("claude-opus-4-5", "qwen3:14b", "", "echo,", "echo,echo", "echo=1", "say", "say=", "fail=tired", "delay=-1"),
        *("delay=99999999", "echo,say=x", "hang,fail=crashed", "times=2,echo", "after=2,echo", "retry=2,echo"),
        *("chunks=0", "used=101", "resets=5,fail=crashed", "say=a b", "say=ä", "finish=tool_calls", "say=" + "x" * 200),
    ],
)
def test_what_is_no_script_is_not_taken_for_one(model):
    assert script_of(model) is None


@given(st.text(max_size=220))
def test_any_text_is_a_script_or_none(text):
    assert script_of(text) is None or isinstance(script_of(text), Script)


async def test_echo_says_the_last_message_word_by_word_and_counts_what_it_says(adapter):
    prompt = Prompt((user("before"), assistant("then"), user("the  sky\nis blue ")), system="be brief")
    heard = await ask(adapter, prompt, "echo", "echo")
    assert heard.chunks == [
        *(TextDelta("the  "), TextDelta("sky\n"), TextDelta("is "), TextDelta("blue ")),
        Finish("stop", Usage(input_tokens=8, output_tokens=4), model="echo"),
    ]


async def test_a_demo_answer_says_that_it_is_one_names_the_model_and_the_prompt(adapter):
    heard = await ask(adapter, "Why is the sky blue?", "claude-opus-4-5", "claude-opus-4-5")
    assert heard.text.startswith("This is a demo of LLMux: no model was asked.")
    assert "claude-opus-4-5" in heard.text
    assert heard.text.endswith("Why is the sky blue?")


async def test_equal_calls_on_fresh_adapters_get_equal_chunks(tmp_path):
    for model in ("claude-opus-4-5", "echo,chunks=7,reason=hm", "used=5,say=a+b"):
        first, second = [
            await ask(ScriptedAdapter(place_of("scripted", tmp_path)), "a b c", model, model) for _ in range(2)
        ]
        assert first.chunks == second.chunks


@pytest.mark.parametrize(("words", "chunks"), [(5, 20), (20, 20), (50, 20), (5, 1), (1, 3)])
async def test_the_answer_comes_in_as_many_chunks_as_asked(adapter, words, chunks):
    heard = await ask(adapter, " ".join(["word"] * words), "m", f"echo,chunks={chunks}")
    assert len(heard.chunks) == chunks + 1
    assert heard.text.split() == ["word"] * max(words, chunks)


async def test_delay_and_gaps_take_their_time(adapter, autojump_clock):
    began = trio.current_time()
    moments = []

    class Timed(Heard):
        async def emit(self, chunk):
            moments.append(round((trio.current_time() - began) * 1000))

    await ask(adapter, "a b c", "m", "echo,delay=250,gap=5", Timed())
    assert moments == [250, 255, 260, 260]


async def test_reasoning_comes_first_and_is_counted(adapter):
    heard = await ask(adapter, "x", "m", "say=yes,reason=let+me+see")
    assert heard.chunks[0] == ReasoningDelta("let me see")
    assert heard.answer.finish.usage == Usage(input_tokens=1, output_tokens=4, reasoning_tokens=3)


@pytest.mark.parametrize("kind", list(Kind))
async def test_it_fails_with_any_kind_before_the_first_chunk(adapter, kind):
    heard = Heard()
    assert (await failure(adapter, f"fail={kind}", heard)).kind is kind
    assert heard.chunks == []


async def test_a_failure_after_three_chunks_is_a_cut(adapter):
    heard = Heard()
    assert (await failure(adapter, "echo,fail=garbled,after=3", heard)).kind is Kind.GARBLED
    assert heard.text == "one two three "
    timed_out = await failure(adapter, "echo,fail=timed_out,after=1")
    assert timed_out.phase == "idle"


async def test_it_fails_so_many_times_and_then_answers(adapter):
    for _ in range(2):
        assert (await failure(adapter, "fail=overloaded,times=2")).kind is Kind.OVERLOADED
    assert (await ask(adapter, "well", "m", "fail=overloaded,times=2")).text == "well"
    assert (await failure(adapter, "fail=overloaded,times=1")).kind is Kind.OVERLOADED, "another name counts anew"


async def test_resets_and_waits_are_told_in_ms(adapter):
    now = adapter._place.clock.now()
    assert 0 <= (await failure(adapter, "fail=quota_exhausted,resets=3600")).resets_at - now - 3_600_000 < 60_000
    assert (await failure(adapter, "fail=rate_limited,retry=2")).retry_after_ms == 2000


async def test_empty_is_a_failure_and_so_is_an_echo_of_nothing(adapter):
    assert (await failure(adapter, "empty")).evidence == "scripted.empty"
    with pytest.raises(ProviderFailure):
        await ask(adapter, "", "m", "echo")


@pytest.mark.parametrize("model", ["hang", "echo,hang,after=2"])
async def test_a_hang_lasts_until_it_is_cancelled(adapter, model, autojump_clock):
    with trio.move_on_after(86_400) as scope:
        await ask(adapter, "a b c", "m", model)
    assert scope.cancelled_caught
    assert adapter.statistics().busy == 0


async def test_a_window_is_reported(adapter):
    heard = await ask(adapter, "x", "m", "echo,used=91")
    assert heard.windows == [QuotaWindow("script", "warning", used_percent=91)]


@pytest.mark.parametrize(
    ("sampling", "text", "reason", "sequence"),
    [
        (Sampling(max_tokens=2), "one two ", "length", ""),
        (Sampling(max_tokens=5), "one two three four five", "stop", ""),
        (Sampling(stop=("four", "three")), "one two ", "stop", "three"),
        (Sampling(stop=("four",), max_tokens=1), "one ", "length", ""),
        (Sampling(stop=("two thr",), max_tokens=1), "one ", "stop", "two thr"),
        (Sampling(stop=("one",)), "", "stop", "one"),
    ],
)
async def test_max_tokens_and_stop_sequences_are_honoured(adapter, sampling, text, reason, sequence):
    prompt = Prompt((user("one two three four five"),), sampling=sampling)
    heard = await ask(adapter, prompt, "m", "echo")
    finish = heard.answer.finish
    assert (heard.text, finish.reason, finish.stop_sequence) == (text, reason, sequence)


@pytest.mark.parametrize(
    ("model", "schema", "text", "ignored"),
    [
        ("demo", {}, "{}", ()),
        ("demo", {"type": "object"}, "{}", ()),
        ("demo", {"type": "object", "required": ["a"]}, None, ("json_schema",)),
        ("demo", {"type": "array"}, None, ("json_schema",)),
        ("say=1", {}, "1", ("json_schema",)),
    ],
)
async def test_a_json_schema_is_met_where_an_empty_object_does_and_else_reported(adapter, model, schema, text, ignored):
    heard = await ask(adapter, Prompt((user("x"),), json_schema=schema), model, model)
    assert heard.answer.finish.ignored == ignored
    assert text is None or heard.text == text


async def test_wishes_that_no_script_can_carry_out_are_reported(adapter):
    sampling = Sampling(temperature=0.0, top_p=1.0, seed=3, reasoning_effort="high")
    heard = await ask(adapter, Prompt((user("x"),), sampling=sampling), "m", "echo")
    assert heard.answer.finish.ignored == ("temperature", "top_p", "reasoning_effort")


async def test_a_misspelt_script_is_not_found_instead_of_answered_as_a_demo(adapter):
    assert (await failure(adapter, "fail=overlaoded")).kind is Kind.MODEL_NOT_FOUND
    assert not adapter.accepts("fail=overlaoded")
    assert adapter.accepts("fail=overloaded")


async def test_it_is_always_ready(adapter):
    assert (await adapter.probe()).ready


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_provider_has_its_adapter(kind, tmp_path):
    settings = {**DEFAULT_PROVIDERS.get(kind, {}), "kind": kind}
    adapter = adapter_for(place_of(kind, tmp_path, **settings))
    assert type(adapter).__name__ == f"{kind.capitalize()}Adapter"
