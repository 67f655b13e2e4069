"""What becomes of a program (of Ollama: a server) that misbehaves is the same for all adapters, as far as their protocols allow."""

from pathlib import Path

import pytest
import trio

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Chunk, Finish
from tests.contracts.hostile import NOISES
from tests.contracts.misbehaving import Misbehaving, misbehaving
from tests.providers.hearing import Heard

LIMITS = Limits(line_bytes_max=200_000, answer_bytes_max=200_000, stop_ms_max=200, stderr_tail_bytes_max=1000)
PROGRAMS = ("claude", "codex", "gemini")
PROVIDERS = (*PROGRAMS, "ollama", "scripted")
GOOD = "good answer"

Outcome = Kind | str
"""What the attempt ends in: a failure of that kind, or the answer GOOD."""

CRASHED, GARBLED, LIMITED = Kind.CRASHED, Kind.GARBLED, Kind.RATE_LIMITED
OUTCOMES: dict[str, tuple[Outcome, ...]] = {  # of claude, codex, gemini and ollama
    "crash before start": (CRASHED, CRASHED, CRASHED, Kind.UNAVAILABLE),
    "crash in the midst": (CRASHED, CRASHED, CRASHED, GARBLED),
    "killed in the midst": (CRASHED, CRASHED, CRASHED, GARBLED),
    "crash that leaves a child": (CRASHED, CRASHED, CRASHED, GARBLED),
    "half a line": (GARBLED, CRASHED, GARBLED, GARBLED),
    "line without an end": (GARBLED, GARBLED, GARBLED, GARBLED),
    "answer without an end": (GARBLED, GARBLED, GARBLED, GARBLED),
    "loud stderr": (GOOD, GOOD, GOOD),  # no server's stderr is ours
    "wrong shapes": (GOOD, GOOD, GOOD, GARBLED),
    "error as an answer": (LIMITED, LIMITED, LIMITED, GARBLED),
    "goes on after the end": (GOOD, GOOD, GOOD, GOOD),
    "exits after the end": (GOOD, GOOD, GOOD, GOOD),
}
SCRIPTED: dict[str, Outcome] = {
    "crash before start": CRASHED,
    "crash in the midst": CRASHED,
    "half a line": GARBLED,
    "error as an answer": LIMITED,
}
SAID = {
    "crash in the midst": "half an ans",
    "killed in the midst": "half an ans",
    "crash that leaves a child": "half an ans",
    "half a line": "half an ans",
}
"""What was heard before the failure, where that is anything; and of an answer without an end, its beginning."""

ROWS = [
    (provider, mode, outcome)
    for mode, outcomes in OUTCOMES.items()
    for provider, outcome in zip(PROVIDERS, outcomes, strict=False)
] + [("scripted", mode, outcome) for mode, outcome in SCRIPTED.items()]


@pytest.mark.parametrize(("provider", "mode", "outcome"), ROWS)
async def test_misbehaviour_ends_in_its_kind_of_failure_and_the_next_answer_is_good(
    provider: str, mode: str, outcome: Outcome, tmp_path: Path
) -> None:
    async with misbehaving(provider, mode, tmp_path, LIMITS) as program:
        await ends_in(program, mode, outcome)
    assert program.left() == set()


@pytest.mark.parametrize(
    ("provider", "outcome"),
    [("claude", GARBLED), ("codex", GOOD), ("gemini", GARBLED), ("ollama", GARBLED)],
)
async def test_what_is_no_message_is_garbled_or_passed_over_and_never_an_answer(
    provider: str, outcome: Outcome, tmp_path: Path
) -> None:
    """Only the protocol of Codex lets a client pass over what it does not understand."""
    async with misbehaving(provider, "", tmp_path, LIMITS) as program:
        for noise in NOISES:
            program.be(noise)
            await ends_in(program, noise, outcome)


async def ends_in(program: Misbehaving, mode: str, outcome: Outcome) -> None:
    """Asks, and asks again when the program behaves."""
    heard, failure = Heard(), None
    with trio.fail_after(20):
        try:
            await program.ask(heard)
        except ProviderFailure as error:
            failure = error
    await program.at_rest()
    program.be("")
    with trio.fail_after(20):
        assert (await program.ask_patiently()).answer.text == GOOD
    if outcome == GOOD:
        assert failure is None, (mode, failure)
        assert heard.answer.text == GOOD
        return
    assert failure is not None, mode
    assert failure.kind is outcome, mode
    assert failure.evidence
    assert "\n" not in str(failure)
    assert not any(isinstance(chunk, Finish) for chunk in heard.chunks)
    if mode == "answer without an end":
        assert len(heard.text) <= LIMITS.answer_bytes_max
    else:
        assert heard.text == SAID.get(mode, "")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_cancelling_leaves_no_process_within_two_seconds(provider: str, tmp_path: Path) -> None:
    """With the limits that a gateway has, and whatever the program thinks of being ended."""
    async with trio.open_nursery() as nursery:
        for mode in (
            ("hang", "stall", "ignores TERM", "stall with a child") if provider in PROGRAMS else ("hang", "stall")
        ):
            nursery.start_soon(is_left_in_time, provider, mode, tmp_path / mode)


async def is_left_in_time(provider: str, mode: str, directory: Path) -> None:
    heard = Heard()
    async with misbehaving(provider, mode, directory) as program:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.ask, heard)
            with trio.fail_after(20):
                while not (program.asked and (heard.text or mode == "hang")):
                    await trio.sleep(0.005)
            assert program.left() or provider == "scripted"
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        await program.gone_within(2 - (trio.current_time() - began))
        await program.at_rest()
        assert not any(isinstance(chunk, Finish) for chunk in heard.chunks)
        program.be("")
        assert (await program.ask_patiently()).answer.text == GOOD


@pytest.mark.parametrize("provider", PROGRAMS)
async def test_the_end_of_the_service_leaves_no_process_within_two_seconds(provider: str, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        for mode in ("mute", "ignores TERM"):
            nursery.start_soon(ends_in_time, provider, mode, tmp_path / mode)


async def ends_in_time(provider: str, mode: str, directory: Path) -> None:
    async with misbehaving(provider, mode, directory) as program, trio.open_nursery() as nursery:
        nursery.start_soon(program.ask)
        with trio.fail_after(20):
            while not (program.left() if mode == "mute" else program.asked):
                await trio.sleep(0.005)
        began = trio.current_time()
        nursery.cancel_scope.cancel()
        program.end()
    await program.gone_within(2 - (trio.current_time() - began))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_the_reader_raises_comes_out_plain(provider: str, tmp_path: Path) -> None:
    """The actor's side of `emit` may be gone: its exception is neither swallowed, nor changed, nor wrapped in a group."""

    class Gone(Heard):
        async def emit(self, chunk: Chunk) -> None:
            raise trio.BrokenResourceError

    async with misbehaving(provider, "", tmp_path) as program:
        with pytest.raises(trio.BrokenResourceError):
            await program.ask(Gone())
        await program.at_rest()
        assert (await program.ask_patiently()).answer.text == GOOD
