"""An answer is cut before a stop sequence, wherever the pieces it comes in are cut."""

from hypothesis import given
from hypothesis import strategies as st

from llmux.prompts import Chunk, Finish, ReasoningDelta, TextDelta, Usage
from llmux.providers.stopping import Stopping

FINISH = Finish("stop", Usage(3, 4))
letters = st.text("ab", max_size=12)


def heard(pieces: list[str], *sequences: str) -> tuple[list[Chunk], str]:
    stopping = Stopping(sequences)
    chunks: list[Chunk] = [*(TextDelta(piece) for piece in pieces if piece), FINISH]
    return [passed for chunk in chunks for passed in stopping.take(chunk)], stopping.found


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


def cut(text: str, sequences: list[str]) -> tuple[str, str]:
    """The same, letter by letter: the first sequence that is complete ends the text; the longest where two are."""
    for end in range(1, len(text) + 1):
        complete = [sequence for sequence in sequences if sequence and text[:end].endswith(sequence)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, ""


@given(st.lists(letters, max_size=6), st.lists(st.text("ab", max_size=4), max_size=3))
def test_the_cut_is_the_same_whatever_pieces_the_text_comes_in(pieces: list[str], sequences: list[str]) -> None:
    chunks, found = heard(pieces, *sequences)
    text, expected = cut("".join(pieces), sequences)
    assert (text_of(chunks), found) == (text, expected)
    assert (FINISH in chunks) == (not found)
    assert all(chunk.text for chunk in chunks if isinstance(chunk, TextDelta)), "an empty delta says nothing"


def test_what_cannot_begin_a_stop_sequence_does_not_wait() -> None:
    stopping = Stopping(("END",))
    assert list(stopping.take(TextDelta("one E"))) == [TextDelta("one ")]
    assert list(stopping.take(TextDelta("N"))) == []
    assert list(stopping.take(TextDelta("ough "))) == [TextDelta("ENough ")]


def test_reasoning_passes_and_is_never_cut() -> None:
    stopping = Stopping(("END",))
    assert list(stopping.take(ReasoningDelta("the END"))) == [ReasoningDelta("the END")]
    assert not stopping.found
