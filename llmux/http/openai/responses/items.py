"""The items of /v1/responses: what a conversation consists of, given, kept and shown in the same form. Pure.

A client may write a message in a short form; here it has only the full one, so that what is kept and what a client sends again
are the same conversation.
"""

from typing import Any, Literal

import msgspec

from llmux.failures import ClientFailure, printable
from llmux.http.bodies import unsupported

Role = Literal["user", "assistant", "system", "developer"]
Progress = Literal["in_progress", "completed", "incomplete"]


class GivenPart(msgspec.Struct, frozen=True):
    """A piece of content as a client writes it."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None


class GivenItem(msgspec.Struct, frozen=True):
    """An item as a client writes it: a message, a reasoning item, a function call or its output, or a reference to one of these."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: str | list[GivenPart] | None = None
    summary: list[GivenPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[GivenPart] | None = None

    @property
    def kind(self) -> str:
        """Its type, which may be left out of messages and references."""
        return self.type or ("message" if self.role is not None else "item_reference" if self.id is not None else "")


class InputText(msgspec.Struct, frozen=True, tag_field="type", tag="input_text"):
    """Text that a client gave."""

    text: str


class InputImage(msgspec.Struct, frozen=True, tag_field="type", tag="input_image"):
    """An image that a client gave, as a `data:` URL."""

    image_url: str
    detail: str = "auto"


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text that the model said. No provider annotates it or tells probabilities."""

    text: str
    annotations: tuple[dict[str, Any], ...] = ()
    logprobs: tuple[dict[str, Any], ...] = ()


class Refusal(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    """Words with which a model declined, as a client passes them on."""

    refusal: str


class SummaryText(msgspec.Struct, frozen=True, tag_field="type", tag="summary_text"):
    """What the model showed of its thoughts."""

    text: str


Content = InputText | InputImage | OutputText | Refusal


class MessageItem(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """What somebody said."""

    id: str
    role: Role
    content: tuple[Content, ...]
    status: Progress = "completed"


class ReasoningItem(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """What the model thought before it spoke. It is shown, and never told to a model again."""

    id: str
    summary: tuple[SummaryText, ...]
    status: Progress = "completed"
    encrypted_content: None = None


class FunctionCallItem(msgspec.Struct, frozen=True, tag_field="type", tag="function_call"):
    """The model asked the client to run a tool."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Progress = "completed"


class FunctionOutputItem(msgspec.Struct, frozen=True, tag_field="type", tag="function_call_output"):
    """What the client's tool answered."""

    id: str
    call_id: str
    output: str | tuple[InputText | InputImage, ...]
    status: Progress = "completed"


Item = MessageItem | ReasoningItem | FunctionCallItem | FunctionOutputItem

_ROLES: tuple[Role, ...] = ("user", "assistant", "system", "developer")
_PREFIXES = {MessageItem: "msg", ReasoningItem: "rs", FunctionCallItem: "fc", FunctionOutputItem: "fco"}


def item_of(given: GivenItem, where: str) -> Item:
    """The item in its full form, with the id "" where the client gave none. Raises ClientFailure; references are not known here."""
    id = given.id or ""
    if given.kind == "message":
        return MessageItem(id, _role(given, where), _content(given, where))
    if given.kind == "reasoning":
        return ReasoningItem(id, tuple(SummaryText(part.text) for part in given.summary or () if part.text is not None))
    if given.kind == "function_call":
        if not given.call_id or not given.name:
            raise ClientFailure("A function_call needs call_id and name.", param=where)
        return FunctionCallItem(id, given.call_id, given.name, given.arguments or "")
    if given.kind == "function_call_output":
        return _function_output(given, id, where)
    if not given.kind:
        raise ClientFailure("The item has neither type nor role.", param=where)
    raise unsupported(
        f"{where}.type",
        f"Items of the type '{printable(given.kind, 40)}' are not taken; message, reasoning, function_call, "
        "function_call_output and item_reference are.",
    )


def numbered(items: tuple[Item, ...], hex: str) -> tuple[Item, ...]:
    """The items, each with an id: its own, or one made from `hex`, which is its request's."""
    return tuple(
        item if item.id else msgspec.structs.replace(item, id=f"{_PREFIXES[type(item)]}_{hex}_in{index}")
        for index, item in enumerate(items)
    )


def _function_output(given: GivenItem, id: str, where: str) -> FunctionOutputItem:
    if not given.call_id:
        raise ClientFailure("A function_call_output needs the call_id it answers.", param=f"{where}.call_id")
    if given.output is None or isinstance(given.output, str):
        return FunctionOutputItem(id, given.call_id, given.output or "")
    pieces = [_part(part, f"{where}.output[{index}]", "user") for index, part in enumerate(given.output)]
    return FunctionOutputItem(
        id, given.call_id, tuple(piece for piece in pieces if isinstance(piece, InputText | InputImage))
    )


def _role(given: GivenItem, where: str) -> Role:
    for known in _ROLES:
        if given.role == known:
            return known
    role = printable(given.role or "", 40)
    raise ClientFailure(f"The role '{role}' is not known.", param=f"{where}.role", code="invalid_role")


def _content(given: GivenItem, where: str) -> tuple[Content, ...]:
    role = given.role or ""
    if given.content is None:
        raise ClientFailure("The message has no content.", param=f"{where}.content")
    if isinstance(given.content, str):
        return (_text(given.content, role),)
    return tuple(_part(part, f"{where}.content[{index}]", role) for index, part in enumerate(given.content))


def _text(text: str, role: str) -> Content:
    return OutputText(text) if role == "assistant" else InputText(text)


def _part(part: GivenPart, where: str, role: str) -> Content:
    if part.type in ("input_text", "output_text", "text") and part.text is not None:
        return _text(part.text, role)
    if part.type == "refusal" and part.refusal is not None:
        return Refusal(part.refusal) if role == "assistant" else _text(part.refusal, role)
    if part.type == "input_image":
        if role != "user":
            raise unsupported(where, f"A message of the role {role} can hold text only.")
        if part.image_url is None:
            raise unsupported(where, "Images must come inline, as image_url with a data: URL; there are no files here.")
        return InputImage(part.image_url)
    if part.type in ("input_text", "output_text", "text", "refusal"):
        raise ClientFailure(f"The part lacks its {'refusal' if part.type == 'refusal' else 'text'}.", param=where)
    raise unsupported(
        f"{where}.type",
        f"Parts of the type '{printable(part.type, 40)}' are not taken; input_text, input_image and output_text are.",
    )
