"""The gateway's own description: an OpenAPI 3.1 document, made of the routes and of the structs that they read and write.

    GET /openapi.json   the document
    GET /reference      the same for people

Nothing is described a second time for it: a route is registered together with its `Operation`, and a dialect's errors are told
by what its `error_body` returns.
"""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
from quart import Response

from llmux import __version__
from llmux.http.access import Access, Caller, Door, Variant
from llmux.http.exchange import json_response
from llmux.http.headers import told_with, wishes_of
from llmux.http.native import error_body
from llmux.http.operations import Operation, Parameter
from llmux.http.reference import page_of

if TYPE_CHECKING:
    from llmux.actors.system import System

PATH, PAGE = "/openapi.json", "/reference"
_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")
_REF = "#/components/schemas/{name}"
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of this gateway"},
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same, as Anthropic's clients send it",
    },
    "api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "api-key",
        "description": "The same, as Azure's clients send it",
    },
    "admin": {"type": "apiKey", "in": "header", "name": "X-Admin-Key", "description": "The ADMIN_KEY of this gateway"},
}
_WORDS = {
    400: "The request cannot be read or carried out; the message names the field",
    401: "The key is missing or wrong",
    403: "The host, the origin or the key is not allowed here",
    404: "What was asked for is not known",
    408: "The body did not arrive in time",
    409: "What this would answer with, or change, is not there any more",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "The body holds too much, is nested too deep, or is not the one that its Idempotency-Key was used for",
    429: "A quota is spent or too many requests came; Retry-After says when to come again",
    500: "The gateway failed where it should not have",
    502: "The provider failed",
    503: "No provider, or the gateway itself, can take it now",
    504: "The provider took too long",
    507: "The event log is full",
}
"""Every status that a route may have beside 200, with what it means here."""


def register(door: Door, system: "System") -> None:
    """Opens both routes. Registered last: what comes after it is not in the document."""
    open_to = Operation("This document", tag="Documents", answer=dict[str, Any])
    page = Operation("This document for people", tag="Documents", media_type="text/html; charset=utf-8")

    async def document() -> Response:
        return json_response(whole)

    async def reference() -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return Response(html, content_type=page.media_type, headers={"content-security-policy": policy})

    door.route("GET", PATH, document, Caller.PUBLIC, error_body, open_to)
    door.route("GET", PAGE, reference, Caller.PUBLIC, error_body, page)
    whole = document_of(door.routes, keys_required=system.settings.api_key_required)
    html = page_of(whole)


def document_of(routes: Mapping[str, Access], *, keys_required: bool) -> dict[str, Any]:
    """The document of all `routes` ("METHOD rule" -> what is known of it). Raises ValueError for a route without Operation."""
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint, access in sorted(routes.items(), key=lambda each: (each[0].partition(" ")[2], each[0])):
        method, _, rule = endpoint.partition(" ")
        path = paths.setdefault(_PLACEHOLDER.sub(r"{\1}", rule), {})
        told = _operation(method, rule, access, schemas, keys_required=keys_required)
        path[method.lower()] = told if access.variant is None else _either(told, access.variant, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LLMux",
            "version": __version__,
            "summary": "One API over Claude Code, Gemini CLI, Codex and Ollama",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(_told(each).tag for each in routes.values())],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _told(access: Access) -> Operation:
    if access.operation is None:
        raise ValueError("a route has no Operation")
    return access.operation


def _schemas(routes: Mapping[str, Access]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The schema of every type that is named (by the type), and those that they refer to (by name)."""
    types = list(dict.fromkeys(type_ for access in routes.values() for type_ in _types(access)))
    told, components = msgspec.json.schema_components(types, ref_template=_REF)
    return dict(zip(types, told, strict=True)), components


def _types(access: Access) -> Iterator[Any]:
    told = _told(access)
    yield from filter(None, (told.body, told.answer, told.frame))
    yield from (parameter.type for parameter in (*told.parameters, *wishes_of(told)))
    yield error_type_of(access)
    if access.variant is not None:
        yield from (str, access.variant.operation.answer, error_type_of(access.variant))


def error_type_of(access: Access | Variant) -> Any:
    """What the errors of a route look like: the return type of the function that writes them."""
    return get_type_hints(access.errors)["return"]


def _operation(
    method: str, rule: str, access: Access, schemas: Mapping[Any, Any], *, keys_required: bool
) -> dict[str, Any]:
    told = _told(access)
    body: dict[str, Any] = {
        "operationId": _id(method, rule),
        "summary": told.summary,
        "tags": [told.tag],
        "security": _security(access.caller, keys_required=keys_required),
        "responses": {"200": _good(told, schemas)},
    }
    if told.description:
        body["description"] = told.description
    if parameters := (*told.parameters, *wishes_of(told)):
        body["parameters"] = [_parameter(each, schemas) for each in parameters]
    if told.body is not None:
        body["requestBody"] = {
            "required": told.body_required,
            "content": {"application/json": {"schema": schemas[told.body]}},
        }
    failure = {"application/json": {"schema": schemas[error_type_of(access)]}}
    for status in failures_of(method, access):
        body["responses"][str(status)] = {
            "description": _WORDS.get(status, HTTPStatus(status).phrase),
            "headers": told_with(status, told),
            **({} if status == HTTPStatus.NO_CONTENT else {"content": failure}),
        }
    return body


def _either(told: dict[str, Any], variant: Variant, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    """An operation that answers in one dialect or another."""
    about = f"Whoever sends it is answered as {variant.operation.tag}'s API does"
    switch = _parameter(Parameter(variant.header, "header", about), schemas)
    responses = {}
    for status, response in told["responses"].items():
        usual = response["content"]["application/json"]["schema"]
        other = schemas[variant.operation.answer if status == "200" else error_type_of(variant)]
        content = {"application/json": {"schema": {"anyOf": [usual, other]}}}
        responses[status] = {**response, "content": content}
    return {**told, "parameters": [*told.get("parameters", ()), switch], "responses": responses}


def failures_of(method: str, access: Access) -> list[int]:
    """Every status beside 200 that a route can have."""
    told = _told(access)
    statuses = {400, 403, 500, 503, *told.failures}
    if access.caller is not Caller.PUBLIC:
        statuses.add(401)
    if method in ("POST", "PUT", "PATCH", "DELETE"):
        statuses |= {408, 413, 415, 422}
    if told.generates:
        statuses |= {404, 409, 429, 502, 504, 507}
    return sorted(statuses)


def _good(told: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if told.answer is not None:
        content["application/json"] = {"schema": schemas[told.answer]}
    if told.answer is None or told.frame is not None:
        schema: dict[str, Any] = {"type": "string"}
        if told.frame is not None:
            schema["description"] = "A stream of frames, each of which is JSON"
            schema["x-frame"] = schemas[told.frame]
        content[told.media_type] = {"schema": schema}
    return {"description": told.summary, "headers": told_with(200, told), "content": content}


def _parameter(parameter: Parameter, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required or parameter.where == "path",
        "description": parameter.description,
        "schema": schemas[parameter.type],
    }


def _security(caller: Caller, *, keys_required: bool) -> list[dict[str, Any]]:
    users: list[dict[str, Any]] = [{"bearer": []}, {"x-api-key": []}, {"api-key": []}]
    if caller is Caller.PUBLIC or (caller in (Caller.USER, Caller.OPERATOR) and not keys_required):
        return [{}]
    return users if caller is Caller.USER else [{"admin": []}]


def _id(method: str, rule: str) -> str:
    """A name for the operation: "GET /v1/models/<path:id>" is get_v1_models_id."""
    return "_".join([method.lower(), *re.findall(r"\w+", _PLACEHOLDER.sub(r"\1", rule).replace("-", "_"))])
