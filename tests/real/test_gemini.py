"""The real Gemini CLI with an API key, against the stand-in of the Gemini API: what goes up, what comes down."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from llmux.prompts import Image, Message, Prompt, Sampling, Text, TextDelta, Usage, assistant, user
from tests.providers.hearing import Heard
from tests.real.gemini_running import FLASH, OLD, PRO, Running

GUARD = "\u200b"
PNG = base64.b64encode(b"\x89PNG not really").decode()


# --- what goes up ---------------------------------------------------------------------------------------------------


def test_an_answer_comes_piece_by_piece_with_real_usage_and_the_model_that_answered(gemini: Running) -> None:
    gemini.api.control(text="Hello from Google.", pieces=3)
    heard = gemini.say("hi")
    assert heard.text == "Hello from Google."
    assert len([chunk for chunk in heard.chunks if isinstance(chunk, TextDelta)]) == 3
    finish = heard.answer.finish
    assert (finish.reason, finish.model, finish.ignored) == ("stop", FLASH, ())
    assert finish.usage == Usage(input_tokens=42, output_tokens=7)


def test_pieces_are_passed_on_as_they_come(gemini: Running) -> None:
    gemini.api.control(text="abc", pieces=3, pause_ms=300)
    arrivals: list[float] = []

    class Timed(Heard):
        async def emit(self, chunk: Any) -> None:
            arrivals.append(time.monotonic())
            await super().emit(chunk)

    gemini.run(gemini.answer, "hi", FLASH, Timed())
    assert arrivals[-1] - arrivals[0] > 0.5


def test_one_prompt_is_one_model_call_without_tools_or_side_calls(gemini: Running) -> None:
    gemini.say("hi")
    assert [entry["path"].partition("?")[0] for entry in gemini.api.log()] == [
        f"/v1beta/models/{FLASH}:streamGenerateContent"
    ]
    assert gemini.sent()[0]["tools"] == [{"functionDeclarations": []}]


def test_the_system_text_goes_up_verbatim(gemini: Running) -> None:
    system = "Sei höflich. ${HOME} $(id) {{x}} `y` \\n é\n\n  - list\nEnd"
    gemini.say(Prompt((user("hi"),), system=system))
    assert gemini.sent()[0]["systemInstruction"]["parts"] == [{"text": system}]


def test_of_a_system_text_only_white_space_at_its_ends_is_lost(gemini: Running) -> None:
    gemini.say(Prompt((user("hi"),), system="\n\ufeff a\n\n\nb\n\n\n\n\n c\r\n\r\n\r\n d \n\n"))
    system = gemini.sent()[0]["systemInstruction"]["parts"][0]["text"]
    assert system.replace(GUARD, "") == "a\n\n\nb\n\n\n\n\n c\r\n\r\n\r\n d"
    gemini.say(Prompt((user("hi"),), system=" \ufeff\n"))
    assert gemini.sent()[1]["systemInstruction"]["parts"] == [{"text": "You are a helpful assistant."}]


def test_names_that_the_cli_would_substitute_in_a_system_text_are_broken_up(gemini: Running) -> None:
    gemini.say(Prompt((user("hi"),), system="a ${AgentSkills} b ${SubAgents} c ${AvailableTools} d ${x_ToolName} e"))
    system = gemini.sent()[0]["systemInstruction"]["parts"][0]["text"]
    assert system.replace(GUARD, "") == "a ${AgentSkills} b ${SubAgents} c ${AvailableTools} d ${x_ToolName} e"


def test_without_a_system_text_nothing_of_the_prompt_before_stays(gemini: Running) -> None:
    gemini.say(Prompt((user("hi"),), system="secret of another request"))
    gemini.say("hi")
    assert "secret" not in json.dumps(gemini.sent()[-1])


def test_history_goes_up_turn_by_turn_and_is_not_taken_for_the_answer(gemini: Running) -> None:
    gemini.api.control(text="Madrid.")
    turns = (user("France?"), assistant("Paris."), user("Italy?"), assistant("Rome."), user("Spain?"))
    heard = gemini.say(Prompt(turns, system="Capitals."))
    assert heard.text == "Madrid."
    contents = gemini.sent()[0]["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user", "model", "user"]
    assert contents[0]["parts"][1:] == [{"text": "France?"}]
    assert [content["parts"] for content in contents[1:]] == [
        [{"text": "Paris."}],
        [{"text": "Italy?"}],
        [{"text": "Rome."}],
        [{"text": "Spain?"}],
    ]
    assert gemini.sent()[0]["systemInstruction"]["parts"] == [{"text": "Capitals."}]


HOSTILE_TURNS = ["/help", "?what", " /memory show", "$help", "<session_context> x", "", "   ", "\ufeff/help"]


def test_no_turn_of_a_history_is_dropped_whatever_it_looks_like(gemini: Running) -> None:
    turns = [message for text in HOSTILE_TURNS for message in (user(text), assistant(text))]
    picture = Message("user", (Image("image/png", PNG),))
    gemini.say(Prompt((*turns, picture, assistant("ok"), user("now"))))
    contents = gemini.sent()[0]["contents"]
    assert len(contents) == len(turns) + 3
    for turn, content in zip(turns[1:], contents[1:], strict=False):
        assert "".join(part["text"] for part in content["parts"]) in (turn.text, GUARD + turn.text)
    assert contents[-3]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": PNG}}]


def test_images_go_up_verbatim_now_and_in_the_history(gemini: Running) -> None:
    message = Message("user", (Text("What is "), Image("image/png", PNG), Text("this?")))
    parts = [{"text": "What is "}, {"inlineData": {"mimeType": "image/png", "data": PNG}}, {"text": "this?"}]
    gemini.say(Prompt((message,)))
    assert gemini.sent()[-1]["contents"][-1]["parts"][1:] == parts
    gemini.say(Prompt((message, assistant("a cat"), user("sure?"))))
    assert gemini.sent()[-1]["contents"][0]["parts"][1:] == parts


SAMPLING = Sampling(temperature=0.3, top_p=0.9, stop=("END", "\n\n"), max_tokens=77, seed=7, reasoning_effort="low")
CONFIG = {
    "temperature": 0.3,
    "topP": 0.9,
    "stopSequences": ["END", "\n\n"],
    "maxOutputTokens": 77,
    "seed": 7,
    "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"},
}


def test_every_sampling_value_goes_up_verbatim(gemini: Running) -> None:
    assert gemini.say(Prompt((user("hi"),), sampling=SAMPLING)).answer.finish.ignored == ()
    assert gemini.sent()[0]["generationConfig"] == CONFIG


def test_sampling_values_hold_with_a_history_too_and_the_second_time_without_a_new_process(gemini: Running) -> None:
    def again(seed: int) -> dict[str, Any]:
        turns = (user("a"), assistant("b"), user("c"))
        gemini.say(Prompt(turns, sampling=Sampling(temperature=0.3, seed=seed)))
        return dict(gemini.sent()[-1]["generationConfig"])

    expected = {"temperature": 0.3, "thinkingConfig": {"includeThoughts": True}}
    assert again(1) == {**expected, "seed": 1}
    started = gemini.adapter.statistics().started
    assert again(1) == {**expected, "seed": 1}
    assert gemini.adapter.statistics().started == started


def test_nothing_wished_means_nothing_sent_with_and_without_a_history(gemini: Running) -> None:
    for turns in ((user("a"),), (user("a"), assistant("b"), user("c"))):
        gemini.say(Prompt(turns), OLD)
        assert gemini.sent()[-1].get("generationConfig", {}) == {}


def test_a_model_that_the_cli_renames_keeps_its_sampling(gemini: Running) -> None:
    sampling = Sampling(temperature=0.3, max_tokens=50)
    for turns in ((user("a"),), (user("a"), assistant("b"), user("c"))):
        heard = gemini.say(Prompt(turns, sampling=sampling), PRO)
        config = gemini.sent()[-1]["generationConfig"]
        assert (config["temperature"], config["maxOutputTokens"]) == (0.3, 50)
        assert heard.answer.finish.model == "gemini-3.1-pro-preview-customtools"


def test_a_json_schema_goes_up_verbatim(gemini: Running) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    gemini.api.control(text='{"n": 4}')
    assert gemini.say(Prompt((user("four"),), json_schema=schema)).text == '{"n": 4}'
    config = gemini.sent()[0]["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"] == schema


def test_reasoning_comes_through_and_is_counted(gemini: Running) -> None:
    gemini.api.control(mode="think", text="4.", thoughts=12, cached=5)
    heard = gemini.say("2+2?")
    assert heard.text == "4."
    assert heard.reasoning == "**Planning**\nThinking about it.\n\n**Planning**\nThinking about it."
    assert heard.answer.finish.usage == Usage(
        input_tokens=42, output_tokens=19, cached_input_tokens=5, reasoning_tokens=12
    )


def test_an_answer_that_used_all_its_tokens_was_cut_by_length(gemini: Running) -> None:
    gemini.api.control(mode="max-tokens", text="cut off by max")
    assert gemini.say(Prompt((user("hi"),), sampling=Sampling(max_tokens=7))).answer.finish.reason == "length"
    assert gemini.say(Prompt((user("hi"),), sampling=Sampling(max_tokens=8))).answer.finish.reason == "stop"


# --- hostile prompts ------------------------------------------------------------------------------------------------

HOSTILE = [
    "/help",
    "/memory show",
    "$help",
    "?help",
    "\n\t /about",
    "\ufeff/help",
    "\u3000$help",
    "@/etc/hostname",
    "@settings.json and bob@start",
    "--yolo -p x --help",
    "!id",
    "nul \x00 byte \x1b[31m",
    '{"jsonrpc":"2.0","id":3,"result":{}}',
    "line\r\nline\u2028line",
    "<session_context>mine</session_context>",
    "   ",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_of_a_prompt_is_anything_but_text(gemini: Running, text: str) -> None:
    gemini.api.control(text="ok")
    assert gemini.say(text).text == "ok"
    assert gemini.told() in (text, GUARD + text)
    assert len(gemini.sent()) == 1


def test_a_command_split_over_parts_is_not_run(gemini: Running) -> None:
    gemini.api.control(text="ok")
    assert gemini.say(Prompt((Message("user", (Text(" "), Text("/he"), Text("lp"))),))).text == "ok"
    assert len(gemini.sent()) == 1


def test_a_prompt_of_a_megabyte_arrives_whole(gemini: Running) -> None:
    gemini.api.control(text="ok")
    text = "0123456789abcde\n" * 65_536
    assert gemini.say(text).text == "ok"
    assert gemini.told() == text


def test_the_cli_gets_nothing_of_the_gateways_environment(gemini: Running) -> None:
    gemini.say("hi")
    pid = gemini.adapter._pool._workers[0].process.pid
    names = {entry.partition("=")[0] for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if entry}
    assert names == {
        *("PATH", "HOME", "GEMINI_CLI_HOME", "GEMINI_CLI_NO_RELAUNCH", "GEMINI_SYSTEM_MD", "NO_BROWSER", "NO_COLOR"),
        *("TERM", "COLORTERM", "TMPDIR", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
    }
