"""The events of a streamed response, each with its number from 0 on."""

from typing import Any

import msgspec

from llmux.http.openai.responses.items import Item, OutputText, SummaryText
from llmux.http.openai.responses.object import ResponseError, ResponseObject


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    sequence_number: int


class ResponseCreated(_Event, frozen=True, tag="response.created"):
    """The first event: the response before anything was said."""

    response: ResponseObject


class ResponseInProgress(_Event, frozen=True, tag="response.in_progress"):
    """The second event, with the same response."""

    response: ResponseObject


class ItemAdded(_Event, frozen=True, tag="response.output_item.added"):
    """An item begins, still empty."""

    output_index: int
    item: Item


class ItemDone(_Event, frozen=True, tag="response.output_item.done"):
    """An item is as it will stay."""

    output_index: int
    item: Item


class SummaryPartAdded(_Event, frozen=True, tag="response.reasoning_summary_part.added"):
    """The part of a reasoning item begins, still empty."""

    item_id: str
    output_index: int
    summary_index: int
    part: SummaryText


class SummaryDelta(_Event, frozen=True, tag="response.reasoning_summary_text.delta"):
    """More of what the model shows of its thoughts."""

    item_id: str
    output_index: int
    summary_index: int
    delta: str


class SummaryDone(_Event, frozen=True, tag="response.reasoning_summary_text.done"):
    """The whole text of the deltas."""

    item_id: str
    output_index: int
    summary_index: int
    text: str


class SummaryPartDone(_Event, frozen=True, tag="response.reasoning_summary_part.done"):
    """The part as it will stay."""

    item_id: str
    output_index: int
    summary_index: int
    part: SummaryText


class ContentPartAdded(_Event, frozen=True, tag="response.content_part.added"):
    """The part of a message begins, still empty."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class TextDeltaEvent(_Event, frozen=True, tag="response.output_text.delta"):
    """More of the answer."""

    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: tuple[dict[str, Any], ...] = ()


class TextDone(_Event, frozen=True, tag="response.output_text.done"):
    """The whole text of the deltas."""

    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: tuple[dict[str, Any], ...] = ()


class ContentPartDone(_Event, frozen=True, tag="response.content_part.done"):
    """The part as it will stay."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class ResponseCompleted(_Event, frozen=True, tag="response.completed"):
    """The last event of a whole answer."""

    response: ResponseObject


class ResponseIncomplete(_Event, frozen=True, tag="response.incomplete"):
    """The last event of an answer that was cut."""

    response: ResponseObject


class ErrorEvent(_Event, frozen=True, tag="error"):
    """The answer broke off; `response.failed` follows. The same words stand in `error`, where most clients look for them."""

    code: str
    message: str
    param: str | None
    error: ResponseError


class ResponseFailed(_Event, frozen=True, tag="response.failed"):
    """The last event of an answer that broke off, with what was said before."""

    response: ResponseObject


OutputEvent = (
    ItemAdded
    | ItemDone
    | SummaryPartAdded
    | SummaryDelta
    | SummaryDone
    | SummaryPartDone
    | ContentPartAdded
    | TextDeltaEvent
    | TextDone
    | ContentPartDone
)
ResponseEvent = (
    ResponseCreated
    | ResponseInProgress
    | OutputEvent
    | ResponseCompleted
    | ResponseIncomplete
    | ErrorEvent
    | ResponseFailed
)


def event_frame(event: ResponseEvent) -> bytes:
    """One named event with JSON data."""
    name = str(type(event).__struct_config__.tag)
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
