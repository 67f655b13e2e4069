"""Models as OpenAI's clients list them and look them up."""

import msgspec

from tests.http.served import connected, gateway, settings_of


async def test_the_models_are_listed_and_each_has_a_page(door):
    reply = await door.get("/v1/models")
    assert reply.json["object"] == "list"
    listed = reply.json["data"]
    entry = next(each for each in listed if each["id"] == "codex-plain")
    created = entry["created"]
    assert entry == {
        "id": "codex-plain",
        "object": "model",
        "created": created,
        "owned_by": "codex",
        "permission": [],
        "root": "codex-plain",
        "parent": None,
    }
    for each in listed:
        assert (await door.get(f"/v1/models/{each['id']}")).json == each
    assert len({each["id"] for each in listed}) == len(listed)
    assert {each["created"] for each in listed} == {created}


async def test_who_takes_the_first_of_the_list_leaves_the_choice_to_the_gateway(door):
    first = (await door.get("/v1/models")).json["data"][0]
    assert (first["id"], first["owned_by"]) == ("auto", "llmux")
    reply = await door.post(
        "/v1/chat/completions", {"model": first["id"], "messages": [{"role": "user", "content": "hi"}]}
    )
    assert reply.status == 200


async def test_an_unknown_model_is_404_with_the_list(door):
    for name in ("no/such", "no-such", "claude/no-such", "claude/", "AUTO"):
        reply = await door.get(f"/v1/models/{name}")
        error = reply.json["error"]
        assert (reply.status, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert "claude-plain" in error["message"], name


async def test_a_name_with_a_provider_a_slash_or_a_colon_has_its_page_however_it_is_written(tmp_path):
    settings = settings_of(tmp_path)
    models = ("qwen3:14b", "library/qwen3:0.6b")
    ollama = msgspec.structs.replace(settings.providers["ollama"], models=models)
    house = settings_of(tmp_path, providers={**settings.providers, "ollama": ollama})
    async with gateway(house, serving=True) as here, connected(here) as client:
        for path, id, root in (
            ("qwen3:14b", "qwen3:14b", "qwen3:14b"),
            ("qwen3%3A14b", "qwen3:14b", "qwen3:14b"),
            ("ollama/qwen3:14b", "ollama/qwen3:14b", "qwen3:14b"),
            ("ollama%2Fqwen3%3a14b", "ollama/qwen3:14b", "qwen3:14b"),
            ("library/qwen3:0.6b", "library/qwen3:0.6b", "library/qwen3:0.6b"),
            ("ollama%2Flibrary%2Fqwen3:0.6b", "ollama/library/qwen3:0.6b", "library/qwen3:0.6b"),
            ("ollama%2Fauto", "ollama/auto", "say=hello+from+ollama"),
        ):
            await client.ask("GET", f"/v1/models/{path}")
            reply = await client.reply()
            assert (reply.status, path) == (200, path)
            assert (reply.json["id"], reply.json["owned_by"], reply.json["root"]) == (id, "ollama", root)


async def test_aliases_are_listed_where_they_lead_somewhere(tmp_path):
    aliases = {
        "gpt-4o": "claude-plain",
        "fast": "gemini/gemini-plain",
        "lost": "no-such",
        "codex-plain": "claude-plain",
    }
    async with gateway(settings_of(tmp_path, aliases=aliases)) as here:
        listed = {each["id"]: each for each in (await here.get("/v1/models")).json["data"]}
        assert (listed["gpt-4o"]["owned_by"], listed["gpt-4o"]["root"]) == ("claude", "claude-plain")
        assert (listed["fast"]["owned_by"], listed["fast"]["root"]) == ("gemini", "gemini-plain")
        assert listed["codex-plain"]["owned_by"] == "claude", "who asks by this name gets the alias"
        assert "lost" not in listed
        assert (await here.get("/v1/models/lost")).status == 404
        assert (await here.get("/v1/models/gpt-4o")).json == listed["gpt-4o"]


async def test_a_model_that_two_providers_offer_is_listed_once(tmp_path):
    settings = settings_of(tmp_path)
    both = {
        name: msgspec.structs.replace(settings.providers[name], models=("shared",)) for name in ("claude", "gemini")
    }
    async with gateway(settings_of(tmp_path, providers=both)) as here:
        listed = [each for each in (await here.get("/v1/models")).json["data"] if each["id"] == "shared"]
        assert [each["owned_by"] for each in listed] == ["claude"]
        for _ in range(5):  # weights and draws have no say in it
            assert (await here.get("/v1/models/shared")).json == listed[0]
        assert (await here.get("/v1/models/gemini/shared")).json["owned_by"] == "gemini"
