"""Stop sequences for a provider that cannot be told them: the answer is cut before the first one, wherever its pieces are cut."""

from collections.abc import Iterator

from llmux.prompts import Chunk, Finish, TextDelta


class Stopping:
    """Takes the chunks of one answer and returns what may be passed on; text that could begin a stop sequence waits.

    `found` is the sequence that ended the answer ("" = none yet): of several, the one that is complete first, whatever pieces the
    text comes in. From then on nothing is returned, and the answer need not go on. Reasoning is never cut.
    """

    def __init__(self, sequences: tuple[str, ...]):
        self._sequences = tuple(sequence for sequence in sequences if sequence)
        self._held = ""
        self.found = ""

    def take(self, chunk: Chunk) -> Iterator[Chunk]:
        """What may be passed on now. The `Finish` comes after the text that waited."""
        if self.found:
            return
        if isinstance(chunk, TextDelta):
            if passed := self._passed(self._held + chunk.text):
                yield TextDelta(passed)
            return
        if isinstance(chunk, Finish) and self._held:
            yield TextDelta(self._held)
            self._held = ""
        yield chunk

    def _passed(self, text: str) -> str:
        places = [(text.find(sequence), sequence) for sequence in self._sequences]
        ends = [(start + len(sequence), start, sequence) for start, sequence in places if start >= 0]
        if ends:
            _, start, self.found = min(ends)
            self._held = ""
            return text[:start]
        waits = max((_overlap(text, sequence) for sequence in self._sequences), default=0)
        self._held = text[len(text) - waits :]
        return text[: len(text) - waits]


def _overlap(text: str, sequence: str) -> int:
    """How many characters at the end of the text could begin the sequence."""
    return next((size for size in range(len(sequence) - 1, 0, -1) if text.endswith(sequence[:size])), 0)
