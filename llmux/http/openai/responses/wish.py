"""The wish that the body of POST /v1/responses stands for, with what is kept of the conversation before it."""

import msgspec

from llmux.actors.kept_responses import Kept
from llmux.actors.messages import Principal, Wish
from llmux.config import Settings
from llmux.failures import ClientFailure
from llmux.http.bodies import check_count, decoded
from llmux.http.openai.responses.body import ResponsesBody, given_items, ignored_of, refuse, sampling_of, schema_of
from llmux.http.openai.responses.history import History, items_through
from llmux.http.openai.responses.input import conversation_of
from llmux.http.openai.responses.items import GivenItem, Item, ReasoningItem, item_of
from llmux.prompts import Prompt


class Asked(msgspec.Struct, frozen=True):
    """A wish and what the response has to tell about it. `items` is the input alone, `previous` what it continues."""

    wish: Wish
    ignored: tuple[str, ...]
    body: ResponsesBody
    items: tuple[Item, ...]
    previous: Kept | None


def asked_of(data: bytes, endpoint: str, principal: Principal, settings: Settings, history: History) -> Asked:
    """What the body of a request asks for. Without `model` it is for the default provider. Raises ClientFailure."""
    body = decoded(data, ResponsesBody)
    refuse(body)
    given = given_items(body, settings.limits)
    items = tuple(_item(each, f"input[{index}]", history) for index, each in enumerate(given))
    previous = history.previous(body.previous_response_id) if body.previous_response_id is not None else None
    if previous is not None:
        _check_bytes(previous, len(data), settings.limits.body_bytes_max)
    earlier = items_through(previous) if previous is not None else []
    conversation = [*earlier, *items]
    check_count(conversation, settings.limits.messages_max, "input")
    system, turns = conversation_of(conversation, body.instructions or "", len(earlier))
    wish = Wish(
        prompt=Prompt(turns, system, sampling_of(body), schema_of(body, settings.limits)),
        principal=principal,
        endpoint=endpoint,
        provider="" if body.model else settings.default_provider,
        model=body.model or "",
        stream=bool(body.stream),
    )
    thoughts = ("input.reasoning",) if any(isinstance(item, ReasoningItem) for item in items) else ()
    return Asked(wish, thoughts + ignored_of(body), body, items, previous)


def _check_bytes(previous: Kept, more: int, limit: int) -> None:
    """Raises ClientFailure (413) where the client could not have sent the whole conversation itself."""
    if more + sum(kept.bytes for kept in previous.conversation()) > limit:
        raise ClientFailure(
            "The conversation has become too large to be continued.",
            status=413,
            code="request_too_large",
            param="previous_response_id",
        )


def _item(given: GivenItem, where: str, history: History) -> Item:
    if given.kind != "item_reference":
        return item_of(given, where)
    if not given.id:
        raise ClientFailure("An item_reference needs the id of an item.", param=f"{where}.id")
    return history.item(given.id, where)
