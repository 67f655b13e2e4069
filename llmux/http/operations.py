"""What a route takes and gives. The structs named here are the ones that its handler reads and writes, so the two cannot differ."""

from typing import Any, Literal

import msgspec


class Parameter(msgspec.Struct, frozen=True):
    """A value outside the body. `type` is what it must be, `where` it stands."""

    name: str
    where: Literal["path", "query", "header"]
    description: str
    type: Any = str
    required: bool = False


class Operation(msgspec.Struct, frozen=True):
    """One route, described.

    `body`      the struct that its body is read as (None: it takes none)
    `answer`    the struct that its JSON body is written from, with the status 200 (None: the body is no JSON)
    `frame`     the type of one frame, where it can be streamed; `media_type` is that of the stream, or of a body that is no JSON
    `failures`  statuses beside those that every route of its kind can have
    `body_required`  whether it may not be left out
    `generates` whether a provider is asked, which can fail in many ways
    """

    summary: str
    tag: str
    description: str = ""
    body: Any = None
    answer: Any = None
    frame: Any = None
    media_type: str = "text/event-stream"
    parameters: tuple[Parameter, ...] = ()
    failures: tuple[int, ...] = ()
    generates: bool = False
    body_required: bool = True
