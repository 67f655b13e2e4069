"""An answer's items as they grow, and the events that tell it. Pure: equal chunks give equal events.

There is one message, open until the end. What a model thinks before it speaks is one reasoning item; what it thinks in between
are further ones, beside the open message.
"""

from collections.abc import Iterator
from typing import TypedDict

import msgspec

from llmux.http.openai.responses.events import (
    ContentPartAdded,
    ContentPartDone,
    ItemAdded,
    ItemDone,
    OutputEvent,
    SummaryDelta,
    SummaryDone,
    SummaryPartAdded,
    SummaryPartDone,
    TextDeltaEvent,
    TextDone,
)
from llmux.http.openai.responses.items import Item, MessageItem, OutputText, Progress, ReasoningItem, SummaryText
from llmux.prompts import Chunk, ReasoningDelta, TextDelta


class _InMessage(TypedDict):
    """Where an event of a message belongs."""

    sequence_number: int
    item_id: str
    output_index: int
    content_index: int


class _InReasoning(TypedDict):
    """Where an event of a reasoning item belongs."""

    sequence_number: int
    item_id: str
    output_index: int
    summary_index: int


class _Growing:
    """An item that is not whole yet, at its place in the output."""

    def __init__(self, id: str, index: int):
        self.id, self.index = id, index
        self.texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def message(self, status: Progress) -> MessageItem:
        return MessageItem(self.id, "assistant", (OutputText(self.text),), status)

    def reasoning(self, status: Progress) -> ReasoningItem:
        return ReasoningItem(self.id, (SummaryText(self.text),), status)


class Output:
    """Takes an answer's chunks. `hex` is what its ids are made of, `numbers` those of its events."""

    def __init__(self, hex: str, numbers: Iterator[int]):
        self._hex, self._numbers = hex, numbers
        self._items: list[Item] = []
        self._message: _Growing | None = None
        self._reasoning: _Growing | None = None

    def __repr__(self) -> str:
        return f"<Output {len(self._items)} items>"

    @property
    def items(self) -> tuple[Item, ...]:
        """The items, whole after `close`."""
        return tuple(self._items)

    def take(self, chunk: Chunk) -> list[OutputEvent]:
        """The events of one chunk; of what is no text and no reasoning there are none."""
        if isinstance(chunk, TextDelta):
            return [*self._end_reasoning("completed"), *self._say(chunk.text)]
        if isinstance(chunk, ReasoningDelta):
            return self._think(chunk.text)
        return []

    def broken_off(self) -> tuple[Item, ...]:
        """The items of an answer that has no end; what was open is incomplete."""
        items = list(self._items)
        if self._message is not None:
            items[self._message.index] = self._message.message("incomplete")
        if self._reasoning is not None:
            items[self._reasoning.index] = self._reasoning.reasoning("incomplete")
        return tuple(items)

    def close(self, status: Progress) -> list[OutputEvent]:
        """The events of the end; an item that was open until now has this status."""
        return [*self._end_reasoning(status), *self._end_message(status)]

    def _begin(self, prefix: str, item: MessageItem | ReasoningItem) -> tuple[_Growing, ItemAdded]:
        index = len(self._items)
        growing = _Growing(f"{prefix}_{self._hex}" + (f"_{index}" if index else ""), index)
        begun = msgspec.structs.replace(item, id=growing.id)
        self._items.append(begun)
        return growing, ItemAdded(sequence_number=next(self._numbers), output_index=index, item=begun)

    def _say(self, text: str) -> list[OutputEvent]:
        events: list[OutputEvent] = []
        if self._message is None:
            self._message, added = self._begin("msg", MessageItem("", "assistant", (), "in_progress"))
            events = [added, ContentPartAdded(**self._in_message(self._message), part=OutputText(""))]
        self._message.texts.append(text)
        return [*events, TextDeltaEvent(**self._in_message(self._message), delta=text)]

    def _think(self, text: str) -> list[OutputEvent]:
        events: list[OutputEvent] = []
        if self._reasoning is None:
            self._reasoning, added = self._begin("rs", ReasoningItem("", (), "in_progress"))
            events = [added, SummaryPartAdded(**self._in_reasoning(self._reasoning), part=SummaryText(""))]
        self._reasoning.texts.append(text)
        return [*events, SummaryDelta(**self._in_reasoning(self._reasoning), delta=text)]

    def _end_message(self, status: Progress) -> list[OutputEvent]:
        message, self._message = self._message, None
        if message is None:
            return []
        part = OutputText(message.text)
        return [
            TextDone(**self._in_message(message), text=part.text),
            ContentPartDone(**self._in_message(message), part=part),
            self._done(message, message.message(status)),
        ]

    def _end_reasoning(self, status: Progress) -> list[OutputEvent]:
        reasoning, self._reasoning = self._reasoning, None
        if reasoning is None:
            return []
        part = SummaryText(reasoning.text)
        return [
            SummaryDone(**self._in_reasoning(reasoning), text=part.text),
            SummaryPartDone(**self._in_reasoning(reasoning), part=part),
            self._done(reasoning, reasoning.reasoning(status)),
        ]

    def _done(self, growing: _Growing, item: Item) -> ItemDone:
        self._items[growing.index] = item
        return ItemDone(sequence_number=next(self._numbers), output_index=growing.index, item=item)

    def _in_message(self, message: _Growing) -> _InMessage:
        number = next(self._numbers)
        return {"sequence_number": number, "item_id": message.id, "output_index": message.index, "content_index": 0}

    def _in_reasoning(self, reasoning: _Growing) -> _InReasoning:
        number = next(self._numbers)
        return {"sequence_number": number, "item_id": reasoning.id, "output_index": reasoning.index, "summary_index": 0}
