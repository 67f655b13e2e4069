"""No text of a prompt acts on the real Gemini CLI: it reaches the vendor as it is, and no file's content goes with it."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Message, Prompt, Sampling, Text, assistant, user
from tests.real.gemini_running import FLASH, Running
from tests.real.hostile_prompts import NUMBER, SEED, arrived, hostile

GUARD = "\u200b"
SECRET = "the-canary-sings"
AT_ONCE = 2
JS_SPACE = " \t\n\v\f\r\xa0\u2028\u2029\u3000\ufeff"
"""white space that the CLI takes away at the ends of a system text"""


@pytest.fixture
def canary(gemini: Running) -> Path:
    """A file in the home of whoever runs the gateway."""
    file = gemini.directory / "home" / "canary.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(SECRET)
    return file


def plant(gemini: Running, canary: Path) -> None:
    """Puts the file wherever a relative path of the CLI could lead to."""
    for place in (gemini.directory / "private").glob("worker-*"):
        for folder in (place, place / "start", place / "work", place / ".gemini", place / "tmp"):
            (folder / canary.name).write_text(SECRET)


def as_it_is(sent: str, text: str) -> bool:
    """The documented guard: one U+200B before what the CLI would run, drop, or take for its own."""
    return sent in (text, GUARD + text)


def split(text: str, draw: random.Random) -> tuple[Text, ...]:
    at = draw.randint(0, len(text))
    return tuple(Text(part) for part in (text[:at], text[at:]) if part)


def test_hostile_prompts_reach_the_upstream_unchanged_and_bring_no_file(gemini: Running, canary: Path) -> None:
    """As the last text, and as a past question, a past answer and the system's text; whole, and in two parts."""
    print(f"seed {SEED}, {NUMBER} prompts")
    draw = random.Random(SEED)
    texts = [arrived(text) for text in hostile(canary)]
    gemini.api.control(text="ok")
    gate = trio.CapacityLimiter(AT_ONCE)

    async def one(number: int, text: str) -> None:
        async with gate:
            past, system = texts[number - 1], texts[number - 2]
            last = Message("user", split(text, draw)) if number % 2 else user(text)
            first = Message("user", (Text(f"[{number}] "), Text(past)))
            turns = (first, user(past), assistant(past), last) if number % 3 else (first, assistant("so"), last)
            await trio.to_thread.run_sync(plant, gemini, canary)
            heard = await gemini.answer(Prompt(turns, system=f"{system} [{number}]"))
            assert heard.text == "ok", f"prompt {number}: {text!r}"
            sent[number] = (f"[{number}] {past}", text, past, f"{system} [{number}]", len(turns))

    async def all_of_them() -> None:
        async with trio.open_nursery() as nursery:
            for number, text in enumerate(texts):
                nursery.start_soon(one, number, text)

    sent: dict[int, tuple[str, str, str, str, int]] = {}
    gemini.run(all_of_them)
    seen: set[int] = set()
    assert len(gemini.sent()) == len(texts)  # one call each, and no command of the CLI answered by itself
    for body in gemini.sent():
        system = str(body["systemInstruction"]["parts"][0]["text"])
        number = int(system.rpartition("[")[2].removesuffix("]"))
        first, text, past, told, turns = sent[number]
        seen.add(number)
        assert system.replace(GUARD, "") == told.strip(JS_SPACE).replace(GUARD, ""), f"prompt {number}: {told!r}"
        contents = body["contents"]
        assert as_it_is(joined(contents[-1]), text), f"prompt {number}: {text!r}"
        assert contents[0]["parts"][0]["text"].startswith("<session_context>")
        opening = "".join(part["text"] for part in contents[0]["parts"][1:3])
        assert as_it_is(opening, first), f"prompt {number}: {first!r}"
        if turns == 4:
            assert as_it_is(str(contents[0]["parts"][3]["text"]), past), f"prompt {number}: {past!r}"
            assert as_it_is(joined(contents[1]), past), f"prompt {number}: {past!r}"
        assert body["tools"] == [{"functionDeclarations": []}]
    assert seen == set(range(len(texts)))
    everything = json.dumps(gemini.api.log())
    assert SECRET not in everything
    assert "root:x:" not in everything


def joined(content: dict[str, Any]) -> str:
    return "".join(part["text"] for part in content["parts"])


def test_a_path_in_any_place_of_a_prompt_reads_no_file(gemini: Running, canary: Path) -> None:
    """Also in a schema and in what stops the answer."""
    plant(gemini, canary)
    text = f'@{canary} @"{canary}" @canary.txt @./canary.txt @../canary.txt @~/canary.txt bob@canary.txt !cat {canary}'
    schema = {"type": "object", "title": text}
    gemini.say(Prompt((user(text),), system=text, sampling=Sampling(stop=(text,)), json_schema=schema))
    gemini.say(Prompt((user(text), assistant(text), user(text)), system=text))
    assert len(gemini.sent()) == 2
    assert SECRET not in json.dumps(gemini.api.log())
    assert gemini.told() == text


@pytest.mark.parametrize("where", ["system", "history", "last"])
def test_half_a_surrogate_pair_is_refused_before_anything_is_asked(gemini: Running, where: str) -> None:
    bad, good = "half \ud83e", "whole"
    system, past, last = (bad if where == place else good for place in ("system", "history", "last"))

    async def refused() -> ProviderFailure:
        return await gemini.failure(Prompt((user(past), assistant(past), user(last)), system=system), FLASH)

    assert gemini.run(refused).kind is Kind.INVALID_REQUEST
    assert gemini.sent() == []
