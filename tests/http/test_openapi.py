"""The gateway's own description: valid, complete, and the same for programs and for people."""

import html
import re
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from llmux.http.access import Access, Caller
from llmux.http.native import error_body
from llmux.http.openapi import document_of
from tests.http.served import Gateway, gateway, settings_of

PLACEHOLDER = re.compile("<(?:[a-z]+:)?([a-z_]+)>")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jsonschema")


def routes_of(here: Gateway) -> set[str]:
    """Every route of the application, as "METHOD /path/{id}"."""
    return {
        method + " " + PLACEHOLDER.sub(r"{\1}", rule.rule)
        for rule in here.app.url_map.iter_rules()
        for method in (rule.methods or ())
        if method not in ("HEAD", "OPTIONS")
    }


async def test_the_document_is_valid(door: Gateway) -> None:
    document = (await door.get("/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


async def test_every_route_is_described_and_nothing_else(door: Gateway) -> None:
    document = (await door.get("/openapi.json")).json
    told = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert {endpoint for endpoint in told if not endpoint.startswith("HEAD ")} == routes_of(door)


async def test_every_operation_has_a_summary_and_a_name_of_its_own(door: Gateway) -> None:
    document = (await door.get("/openapi.json")).json
    operations = [told for methods in document["paths"].values() for told in methods.values()]
    assert len({told["operationId"] for told in operations}) == len(operations)
    assert all(told["summary"] and told["tags"] for told in operations)


async def test_a_route_that_is_not_described_stops_the_start() -> None:
    with pytest.raises(ValueError, match="no Operation"):
        document_of({"GET /secret": Access(Caller.PUBLIC, error_body)}, keys_required=False)


@pytest.mark.parametrize("required", [False, True])
async def test_it_says_which_key_opens_a_route(tmp_path: Path, required: bool) -> None:
    settings = settings_of(tmp_path, api_key_required=required, admin_key="an admin key for tests, long enough")
    async with gateway(settings) as here:
        paths = (await here.get("/openapi.json")).json["paths"]
    free = [{}]
    users = [{"bearer": []}, {"x-api-key": []}, {"api-key": []}]
    assert paths["/health"]["get"]["security"] == free
    assert paths["/v1/chat/completions"]["post"]["security"] == (users if required else free)
    assert paths["/admin/api-keys"]["post"]["security"] == [{"admin": []}]


async def test_it_tells_the_headers_that_go_both_ways(door: Gateway) -> None:
    paths = (await door.get("/openapi.json")).json["paths"]

    def wishes(path: str) -> set[str]:
        told = paths[path]["post"].get("parameters", [])
        return {each["name"] for each in told if each["in"] == "header"}

    steering = {"Idempotency-Key", "x-llmux-strict", "x-llmux-fallback"}
    assert wishes("/v1/chat/completions") == wishes("/v1/messages") == steering | {"x-llmux-resumable"}
    assert wishes("/api/chat") == wishes("/v1/embeddings") == steering
    assert wishes("/api/show") == set()
    chat = {"messages": [{"role": "user", "content": "hi"}], "top_k": 1}
    for model, status in (("say=hi", "200"), ("gemini/fail=quota_exhausted,resets=9", "429"), ("nobody", "404")):
        reply = await door.post("/v1/chat/completions", {**chat, "model": model})
        told = paths["/v1/chat/completions"]["post"]["responses"][status]["headers"]
        assert str(reply.status) == status
        assert {name for name in reply.headers if name.startswith(("x-llmux-", "x-should", "retry-"))} <= told.keys()
        assert {name for name, each in told.items() if each["required"]} <= reply.headers.keys()


async def test_the_page_shows_what_stands_under_names_and_marks_code(door: Gateway) -> None:
    text = (await door.get("/reference")).body.decode()
    health = text[text.index("<code>/health</code>") :].partition("</details>")[0]
    assert all(f"<code>{field}</code>" in health for field in ("providers", "avgLatencyMs", "deepCheck", "latencyMs"))
    assert "object for each name" in health
    assert "`" not in text
    assert "number 0 to 2" in text


async def test_the_page_shows_every_operation_and_needs_no_script(door: Gateway) -> None:
    document = (await door.get("/openapi.json")).json
    page = await door.get("/reference")
    text = page.body.decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    shown = set(re.findall(r"<span class=method>([A-Z]+)</span> <code>(.*?)</code>", text))
    assert {(method, html.unescape(path)) for method, path in shown} == {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
