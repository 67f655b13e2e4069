"""/v1/models in two dialects: who sends `anthropic-version` reads Anthropic's."""

from quart_trio import QuartTrio

from llmux.http import anthropic, openai
from llmux.http.access import Door
from llmux.http.native import error_body
from llmux.http.openapi import document_of
from tests.http.served import gateway, settings_of

VERSION = {"anthropic-version": "2023-06-01"}


async def test_both_dialects_list_the_same_names(tmp_path):
    async with gateway(settings_of(tmp_path, aliases={"fast": "gemini-plain"})) as here:
        page = (await here.get("/v1/models?limit=20", VERSION)).json
        names = [model["id"] for model in page["data"]]
        assert names == [model["id"] for model in (await here.get("/v1/models")).json["data"]]
        assert {"auto", "fast", "claude-plain"} <= set(names)
        assert (page["first_id"], page["last_id"], page["has_more"]) == (names[0], names[-1], False)
        for model in page["data"]:
            assert (model["type"], model["display_name"], model["lifecycle"]) == ("model", model["id"], "active")
            assert model["created_at"].endswith("Z")
            assert (await here.get(f"/v1/models/{model['id']}", VERSION)).json == model


async def test_a_name_with_its_provider_has_its_page_here_too(door):
    assert (await door.get("/v1/models/claude/claude-plain", VERSION)).json["id"] == "claude/claude-plain"


async def test_an_unknown_model_is_told_in_the_dialect_that_asked(door):
    reply = await door.get("/v1/models/no-such", VERSION)
    assert (reply.status, reply.json["type"], reply.json["error"]["type"]) == (404, "error", "not_found_error")
    plain = await door.get("/v1/models/no-such")
    assert (plain.status, plain.json["error"]["code"]) == (404, "model_not_found")


async def test_the_document_shows_both_shapes_and_the_header_between_them(door):
    here = Door(QuartTrio(__name__), door.system, (("", error_body),))
    for dialect in (openai, anthropic):
        dialect.register(here, door.system)
    document = document_of(here.routes, keys_required=False)
    for path, names in (("/v1/models", ["Models", "ModelPage"]), ("/v1/models/{id}", ["Model", "ModelInfo"])):
        told = document["paths"][path]["get"]
        shapes = told["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
        assert [shape["$ref"].rpartition("/")[2] for shape in shapes] == names
        switch = told["parameters"][-1]
        assert (switch["name"], switch["in"], switch["required"]) == ("anthropic-version", "header", False)
