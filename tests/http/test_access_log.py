"""The access log: what it says of a request, and what it must never say."""

from tests.http.served import connected

PROMPT = b'{"prompt":"hi"}'


async def test_the_log_has_one_line_for_each_response_and_no_query(served, capsys):
    async with connected(served) as client:
        await client.ask("POST", "/claude?key=sk-secret", PROMPT, {"authorization": "Bearer sk-secret"})
        reply = await client.reply()
        await client.ask("GET", "/nope")
        await client.reply()  # by then the line of the first one is written
    line, _ = [line for line in capsys.readouterr().out.splitlines() if "answered" in line]
    assert reply.headers["x-request-id"] in line
    assert "path=/claude " in line
    assert "sk-secret" not in line


async def test_no_key_in_a_path_reaches_the_log(served, capsys):
    """Neither in the path that takes one nor in a misspelled one, with percent signs or without."""
    key = "sk-lmx_AbCdEfGh_" + "s3cret" * 8
    paths = [
        f"/admin/api-keys/{key}",
        f"/admin/api-keys/{key}/more",
        f"/admin/api%2Dkeys/{key}",
        f"/admin/api-keys/%73k-lmx_AbCdEfGh_{'s3cret' * 8}",
        f"/admin//api-keys/{key}",
        f"/{key}",
        "/admin/api-keys/s3cret",
    ]
    async with connected(served) as client:
        for path in paths:
            await client.ask("DELETE", path)
            await client.reply()
        await client.ask("GET", "/last")
        await client.reply()
    told = "".join(capsys.readouterr())
    assert told.count("answered") >= len(paths)
    assert "path=/admin/api-keys/<key>" in told
    assert "s3cret" not in told
