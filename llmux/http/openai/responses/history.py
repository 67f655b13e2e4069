"""Responses that are kept, for whoever belongs to the same project: what a client can go on from.

The conversation is kept as its items, and becomes a prompt in the same way as items that a client sends: so the prompt is the
one that the client would have sent itself, and its beginning stays equal from turn to turn, which vendors' prompt caches need.
"""

import re
from collections.abc import Sequence

import msgspec

from llmux.actors.kept_responses import Kept, KeptResponses
from llmux.failures import ClientFailure, printable
from llmux.http.openai.responses.items import Item
from llmux.http.openai.responses.object import ResponseObject

PREFIX = "resp_"
_ITEM_ID = re.compile(r"(?:msg|rs|fc|fco)_([0-9a-f]{32})(?:_.*)?")
_ITEMS = msgspec.json.Decoder(tuple[Item, ...])


class _Answered(msgspec.Struct, frozen=True):
    output: tuple[Item, ...]


_ANSWERED = msgspec.json.Decoder(_Answered)


class History:
    """The kept responses of one project."""

    def __init__(self, kept: KeptResponses, project: str):
        self._kept, self._project = kept, project

    def previous(self, id: str) -> Kept:
        """The response that `previous_response_id` names. Raises ClientFailure (400, as OpenAI does)."""
        kept = self._kept.look(id, self._project)
        if kept is None:
            raise ClientFailure(
                f"Previous response with id '{printable(id, 100)}' not found. Responses are kept for a while, unless store is "
                "false; send the conversation as input instead.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        return kept

    def response(self, id: str) -> Kept:
        """The response of this id. Raises ClientFailure (404)."""
        kept = self._kept.look(id, self._project)
        if kept is None:
            raise not_found(id)
        return kept

    def item(self, id: str, where: str) -> Item:
        """The item that an item_reference names. Raises ClientFailure (404)."""
        form = _ITEM_ID.fullmatch(id)
        kept = self._kept.look(PREFIX + form[1], self._project) if form is not None else None
        for item in (*_own(kept), *_said(kept)) if kept is not None else ():
            if item.id == id:
                return item
        raise ClientFailure(
            f"Item with id '{printable(id, 100)}' not found. Items are kept with their response; send the item itself instead.",
            status=404,
            code="item_not_found",
            param=f"{where}.id",
        )

    def keep(self, response: ResponseObject, input: Sequence[Item], previous: Kept | None) -> None:
        """Keeps a whole response; `input` is what it answered beyond the previous one."""
        encode = msgspec.json.encode
        self._kept.keep(Kept(response.id, self._project, encode(input), encode(response), previous))

    def forget(self, id: str) -> None:
        """Drops a response. Raises ClientFailure (404)."""
        if not self._kept.forget(id, self._project):
            raise not_found(id)


def not_found(id: str) -> ClientFailure:
    """What is said about a response that is not kept, or not for whoever asks."""
    return ClientFailure(f"Response with id '{printable(id, 100)}' not found.", status=404, code="response_not_found")


def items_before(kept: Kept) -> list[Item]:
    """All that a response was made from: the conversation before it and its own input."""
    *earlier, last = kept.conversation()
    return [item for each in earlier for item in (*_own(each), *_said(each))] + list(_own(last))


def items_through(kept: Kept) -> list[Item]:
    """The conversation up to this response, with what it says."""
    return items_before(kept) + list(_said(kept))


def _own(kept: Kept) -> tuple[Item, ...]:
    return _ITEMS.decode(kept.input)


def _said(kept: Kept) -> tuple[Item, ...]:
    return _ANSWERED.decode(kept.output).output
