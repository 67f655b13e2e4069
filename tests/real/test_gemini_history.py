"""The history of a conversation goes up through the real Gemini CLI the same way every time: the vendor's prompt cache can serve it.

What the CLI puts before the first turn and no setting removes: the date, the name of the operating system, and the path of its
own folder of records. The path is the same for all workers (on Linux); the date changes at midnight, and costs one cache miss.
"""

import base64
import itertools
import json
import re
import sys
from pathlib import Path

import pytest

from llmux.prompts import Image, Message, Prompt, Sampling, Text, assistant, user
from tests.real.gemini_running import FLASH, PRO, Running, adapter_of, run, with_google, with_key, write_login
from tests.upstreams.running import Upstream, upstream

PNG = base64.b64encode(b"\x89PNG not really").decode()
CONVERSATION = (
    Message("user", (Text("/help me "), Image("image/png", PNG), Text(" with\n@this"))),
    assistant("  Gladly. \n"),
    Message("user", (Text("one"), Text(""), Text("two"), Text(" "))),
    Message("assistant", (Text("a"), Text("b"))),
    user(""),
    assistant("?what"),
    user("$x"),
    user("and once more before there is an answer"),
    assistant("<session_context>"),
    user("\u3000!ls \x00 é 🙂 \u2028 \\n \" '"),
)


def turns() -> list[Prompt]:
    """The prompts of one conversation: one for each answer that is in it, and one for the next."""
    answers = [number for number, message in enumerate(CONVERSATION) if message.role == "assistant"]
    return [Prompt(CONVERSATION[:end], system="Be kind.") for end in (*answers, len(CONVERSATION))]


def contents(body: str) -> str:
    """The contents of a request's body as they were written, without the bracket at their end."""
    start = body.index('"contents":[')
    _, end = json.JSONDecoder().raw_decode(body, start + len('"contents":'))
    return body[start : end - 1]


def bodies(api: Upstream) -> list[str]:
    return [str(entry["body"]) for entry in api.log() if "streamGenerateContent" in entry["path"]]


def assert_each_continues_the_one_before(gemini: Running, model: str = FLASH) -> None:
    for prompt in turns():
        gemini.say(prompt, model)
    sent = [contents(body) for body in bodies(gemini.api)]
    assert len(sent) == len(turns())
    for before, after in itertools.pairwise(sent):
        assert after.startswith(before)
    last = json.loads(bodies(gemini.api)[-1])
    assert len(last.get("request", last)["contents"]) == len(CONVERSATION) - 1  # what a user says twice in a row is one


@pytest.mark.parametrize("model", [FLASH, PRO])
def test_successive_turns_begin_with_the_same_bytes(gemini: Running, model: str) -> None:
    assert_each_continues_the_one_before(gemini, model)


def test_the_same_conversation_begins_with_the_same_bytes_whatever_was_between_and_whichever_values_are_wished(
    gemini: Running,
) -> None:
    *_, last = turns()
    seen: set[str] = set()
    for sampling in (Sampling(), Sampling(temperature=0.3)):
        gemini.say("something of somebody else")
        gemini.api.reset()
        gemini.say(Prompt(last.messages, last.system, sampling))
        seen |= {contents(body) for body in bodies(gemini.api)}
    assert len(seen) == 1


def test_every_worker_sends_the_same_bytes(gemini_api: Upstream, tmp_path: Path) -> None:
    gemini_api.reset()
    prompt = Prompt((user("a"), assistant("b"), user("c")), system="S")
    for place in ("one", "another-place"):
        adapter = adapter_of(tmp_path / place, with_key(gemini_api), models=(FLASH,), warm=0)
        with run(adapter, gemini_api, tmp_path / place) as running:
            running.say(prompt)
            running.say(Prompt((user("a"),), system="S"))
    loaded, new, loaded_elsewhere, new_elsewhere = bodies(gemini_api)
    assert (loaded, new) == (loaded_elsewhere, new_elsewhere)
    assert contents(loaded).startswith(contents(new))


def test_what_the_cli_puts_before_the_first_turn_names_no_place_of_this_machine(gemini: Running) -> None:
    gemini.say("hi")
    context = str(gemini.sent()[0]["contents"][0]["parts"][0]["text"])
    shape = (
        r"<session_context>\nThis is the Gemini CLI\. We are setting up the context for our chat\.\n"
        r"Today's date is \w+, \w+ \d+, \d{4} \(formatted according to the user's locale\)\.\n"
        rf"My operating system is: {sys.platform}\n"
        r"The project's temporary directory is: /proc/self/cwd/home/\.gemini/tmp/chat\n\n\n\n</session_context>"
    )
    assert re.fullmatch(shape, context)


def test_successive_turns_begin_with_the_same_bytes_with_a_google_login(tmp_path: Path) -> None:
    with upstream("gemini", "--certificates", str(tmp_path)) as api:
        write_login(tmp_path / "home" / ".gemini")
        adapter = adapter_of(tmp_path, with_google(api), models=(FLASH,), concurrency=1)
        with run(adapter, api, tmp_path) as running:
            assert_each_continues_the_one_before(running)
