"""Who may come in, and what everybody else is told."""

from urllib.parse import unquote

import h11
import pytest
from werkzeug.datastructures import Headers

from llmux.actors.key_registry import IssueKey, RevokeKey
from llmux.failures import ClientFailure
from llmux.http.access import Caller, Door, check_host, check_origin, credential_of, host_of
from llmux.http.native import error_body
from tests.http.served import connected, gateway, settings_of

API_KEY = "sk-an-api-key-for-tests-0001"
ADMIN_KEY = "an-admin-key-for-tests-0001"
KEYS = {"api_key_required": True, "api_key": API_KEY, "admin_key": ADMIN_KEY}
PROMPT = {"prompt": "hi"}
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
PUBLIC = {
    "GET /openapi.json",
    "GET /reference",
    "GET /",
    "GET /health",
    "GET /metrics",
    "GET /api/tags",
    "GET /api/version",
    "GET /ollama/api/tags",
    "GET /ollama/api/version",
    "GET /v1/models",
    "GET /v1/models/<path:id>",
}
OPERATOR = {"POST /api/quota/reset", "POST /api/cache/clear"}
ADMIN = {
    "POST /admin/api-keys",
    "GET /admin/api-keys",
    "PATCH /admin/api-keys/<id>",
    "POST /admin/api-keys/<id>/rotate",
    "DELETE /admin/api-keys/<id>",
    "GET /admin/log/head",
    "GET /admin/events",
    "GET /admin/requests/<id>",
    "GET /admin/state",
    "GET /admin/usage",
    "POST /admin/archive",
    "GET /admin/requests/<id>/content",
    "POST /admin/forget",
}


@pytest.fixture
async def locked(tmp_path):
    """A gateway that wants keys."""
    async with gateway(settings_of(tmp_path, **KEYS)) as here:
        yield here


async def test_every_route_says_who_may_call_it(door):
    """Default deny: what is in the URL map is in the door's table, and only these routes are public."""
    app = door.app
    registered = app.before_request_funcs[None][0].__self__
    assert isinstance(registered, Door)
    rules = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert rules == set(registered.routes)
    for caller, names in ((Caller.PUBLIC, PUBLIC), (Caller.OPERATOR, OPERATOR), (Caller.ADMIN, ADMIN)):
        assert {name for name, access in registered.routes.items() if access.caller is caller} == names
    assert len(rules) >= 19


async def opened(here, headers: dict[str, str]) -> tuple[set[str], set[str]]:
    """Walks the URL map with these headers: which routes opened, and which asked for a credential (401)."""
    let_in, asked = set(), set()
    for rule in here.app.url_map.iter_rules():
        (method,) = rule.methods - {"HEAD", "OPTIONS"}
        path = rule.rule.replace("<path:id>", "claude-plain").replace("<key>", "no-such-key")
        reply = await (here.post(path, PROMPT, headers) if method == "POST" else here.get(path, headers, method))
        assert reply.headers["x-request-id"]
        barred = reply.status in (401, 403) and b"models_not_managed" not in reply.body  # told to whoever is let in
        let_in |= set() if barred else {rule.endpoint}
        asked |= {rule.endpoint} if reply.status == 401 else set()
    return let_in, asked


def routes(here) -> set[str]:
    return {rule.endpoint for rule in here.app.url_map.iter_rules()}


async def test_each_credential_opens_its_routes_and_no_others(locked):
    """The walk over the whole URL map, where keys are required."""
    issued = await locked.system.key_registry.ask(IssueKey(user="u", project="p"))
    users = routes(locked) - OPERATOR - ADMIN
    nothing = await opened(locked, {})
    assert nothing == (PUBLIC, users - PUBLIC)
    for wrong in ("undefined", "null", "sk-lmx_AAAAAAAA_wrong", API_KEY[:-1], ADMIN_KEY[:-1], "é"):
        for header in ("authorization", "x-api-key", "x-admin-key"):
            value = f"Bearer {wrong}" if header == "authorization" else wrong
            assert (await opened(locked, {header: value}))[0] == PUBLIC, (header, wrong)
    for tenant in (API_KEY, issued.secret_key):
        for header in ("x-api-key", "x-admin-key"):
            assert (await opened(locked, {header: tenant}))[0] == (users if header == "x-api-key" else PUBLIC)
    assert (await opened(locked, {"x-admin-key": ADMIN_KEY}))[0] == PUBLIC | OPERATOR | ADMIN
    assert (await opened(locked, {"x-api-key": ADMIN_KEY}))[0] == PUBLIC
    assert (await opened(locked, {"authorization": f"Bearer {ADMIN_KEY}"}))[0] == PUBLIC
    both = {"x-admin-key": ADMIN_KEY, "x-api-key": API_KEY}
    assert (await opened(locked, both))[0] == routes(locked)


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")


def spellings(path: str) -> list[str]:
    """The path as it is, and as somebody would write it who hopes that the lock is on its usual spelling alone."""
    last = path.rpartition("/")[2]
    return [
        path,
        f"/{path}",
        f"{path}/",
        path.replace(last, f"%{ord(last[0]):02x}{last[1:]}") if last else "/%2e",
        path.replace("/", "%2f", 1) if path.count("/") > 1 else f"/%2f{last}",
        f"/.{path}",
        f"/%2e{path}",
        f"/health/%2e%2e{path}",
        f"{path}%00",
        path.upper(),
    ]


async def test_no_spelling_and_no_method_opens_what_the_plain_one_does_not(tmp_path):
    """Over a socket, where paths arrive as they were typed: without a key only the public routes answer."""
    public = {name.split(" ")[1].replace("<path:id>", "claude-plain") for name in PUBLIC}
    async with gateway(settings_of(tmp_path, **KEYS), serving=True) as here:
        paths: dict[str, set[str]] = {}
        for rule in here.app.url_map.iter_rules():
            plain = rule.rule.replace("<path:id>", "claude-plain").replace("<", "").replace(">", "")
            paths.setdefault(plain, set()).update(rule.methods - {"HEAD"})
        for path, own in sorted(paths.items()):
            async with connected(here) as client:
                for spelt in (each for each in spellings(path) if each.startswith("/")):
                    for method in METHODS if spelt == path else own:
                        client.http = h11.Connection(h11.CLIENT)
                        await client.ask(method, spelt)
                        status = (await client.reply()).status
                        if status == 200:
                            assert method in ("GET", "HEAD"), (method, spelt)
                            bare = "/" + unquote(spelt).lstrip("/")
                            assert bare in public, spelt
                        else:
                            assert status in (401, 403, 404, 405), (method, spelt, status)
        assert await here.events() == []


async def test_with_keys_switched_off_all_but_the_admin_routes_are_open(door):
    for headers in ({}, {"x-admin-key": "undefined"}, {"x-admin-key": ""}, {"x-api-key": API_KEY}):
        assert await opened(door, headers) == (routes(door) - ADMIN, set())


async def test_a_route_that_was_not_registered_here_opens_for_nobody(door):
    async def forgotten():
        return "secret"

    door.app.add_url_rule("/forgotten", "forgotten", forgotten)
    reply = await door.get("/forgotten")
    assert (reply.status, reply.json["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
async def test_a_key_is_taken_from_each_of_its_headers(locked, header):
    value = f"Bearer {API_KEY}" if header == "authorization" else API_KEY
    assert (await locked.post("/api/smart", PROMPT, {header: value})).status == 200


async def test_missing_and_wrong_keys_are_told_apart_in_the_callers_dialect(locked):
    missing = await locked.post("/api/smart", PROMPT)
    assert missing.json["error"] == "Missing API key. Use Authorization: Bearer <key>"
    assert (missing.status, missing.json["code"]) == (401, "missing_api_key")
    assert missing.headers["www-authenticate"] == "Bearer"
    wrong = await locked.post("/v1/chat/completions", CHAT, {"authorization": "Bearer sk-wrong"})
    error = wrong.json["error"]
    assert (wrong.status, error["type"], error["code"], error["message"]) == (
        401,
        "authentication_error",
        "invalid_api_key",
        "Invalid API key",
    )
    assert await locked.events() == []
    assert locked.rejected("/api/smart", "missing_api_key") == 1
    assert locked.rejected("/v1/chat/completions", "invalid_api_key") == 1


async def test_an_issued_key_opens_until_it_is_revoked(locked):
    issued = await locked.system.key_registry.ask(IssueKey(user="u", project="p"))
    header = {"x-api-key": issued.secret_key}
    assert (await locked.post("/api/smart", PROMPT, header)).status == 200
    await locked.system.key_registry.ask(RevokeKey(key_id=issued.id))
    assert (await locked.post("/api/smart", PROMPT, header)).status == 401


async def test_the_admin_key_does_not_open_the_routes_of_users(locked):
    reply = await locked.post("/api/smart", PROMPT, {"x-api-key": ADMIN_KEY})
    assert (reply.status, reply.json["code"]) == (403, "permission_denied")


async def test_with_keys_switched_off_any_credential_is_fine(door):
    for value in ("Bearer not-needed", "Bearer sk-lmx_AAAAAAAA_wrong", "Basic Zm9v"):
        assert (await door.post("/api/smart", PROMPT, {"authorization": value})).status == 200


async def test_admin_routes_need_an_admin_key_even_with_keys_switched_off(tmp_path):
    for settings, key, status in (
        (settings_of(tmp_path / "a"), None, 403),
        (settings_of(tmp_path / "a"), "", 403),
        (settings_of(tmp_path / "a"), "undefined", 403),
        (settings_of(tmp_path / "b", **KEYS), API_KEY, 403),
        (settings_of(tmp_path / "c", **{**KEYS, "api_key_required": False}), ADMIN_KEY, 200),
    ):
        async with gateway(settings) as here:
            registered = here.app.before_request_funcs[None][0].__self__

            async def nothing():
                return "{}"

            registered.route("GET", "/admin/nothing", nothing, Caller.ADMIN, error_body)
            reply = await here.get("/admin/nothing", {} if key is None else {"x-admin-key": key})
            assert reply.status == status, (key, reply)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8765",
        "[::1]:8765",
        "10.1.2.3",
        "localhost:1",
        "LOCALHOST",
        "localhost.",
        "llmux",
        "llmux:8765",
        "llmux.orb.local:8765",
        "host.docker.internal",
        "gateway.example.com",
    ],
)
def test_hosts_that_only_the_operator_can_point_at_us_are_taken(host):
    check_host(host_of(host), ("gateway.example.com",))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.com",
        "evil.com:8765",
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        "evil.com#.local",
        "a b",
        "x@localhost",
        "localhost:port",
        "[::1",
        "evil.com/.local",
        "..local",
        "local..",
        "evil.com?.internal",
        "-",
        "a" * 64,
    ],
)
def test_hosts_that_anybody_can_point_at_us_are_refused(host):
    with pytest.raises(ClientFailure) as caught:
        check_host(host_of(host), ("gateway.example.com",))
    assert (caught.value.status, caught.value.code) == (403, "host_not_allowed")


@pytest.mark.parametrize("path", ["/health", "/api/smart", "/nope", "/v1/models"])
async def test_a_rebound_name_gets_nothing_on_any_path(door, path):
    reply = await door.get(path, {"host": "evil.com"})
    assert reply.status == 403
    assert "host_not_allowed" in reply.body.decode()


@pytest.mark.parametrize(
    "origin", ["https://evil.com", "null", "http://localhost:3000", "", "file://", "chrome-extension://x"]
)
async def test_a_foreign_web_page_cannot_drive_the_gateway(door, origin):
    reply = await door.post("/api/smart", PROMPT, {"origin": origin, "host": "localhost:8765"})
    assert (reply.status, reply.json["code"]) == (403, "origin_not_allowed")
    assert await door.events() == []


def test_the_gateways_own_pages_may_call_it():
    check_origin(Headers({"host": "localhost:8765", "origin": "http://localhost:8765"}), ())
    check_origin(Headers({"host": "localhost:8765", "origin": "https://my.site"}), ("my.site",))


async def test_no_response_ever_allows_another_origin(door):
    preflight = {"origin": "https://evil.com", "access-control-request-method": "POST"}
    for method, path in (("OPTIONS", "/api/smart"), ("GET", "/health"), ("POST", "/api/smart")):
        reply = await door.get(path, preflight, method=method)
        assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_options_is_a_method_like_any_other(door):
    reply = await door.get("/api/smart", method="OPTIONS")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
async def test_a_body_that_is_not_json_is_415(door, kind):
    for path in ("/api/smart", "/v1/chat/completions"):
        reply = await door.post(path, PROMPT, {"content-type": kind})
        assert reply.status == 415
        assert "unsupported_media_type" in reply.body.decode()


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"])
async def test_json_is_taken_under_each_of_its_names(door, kind):
    assert (await door.post("/api/smart", PROMPT, {"content-type": kind})).status == 200


async def test_a_compressed_body_is_415(door):
    assert (await door.post("/api/smart", PROMPT, {"content-encoding": "gzip"})).status == 415


async def test_a_gateway_that_stops_takes_no_new_work_but_still_tells_its_health(door):
    door.system.closing = True
    reply = await door.post("/api/smart", PROMPT)
    assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "shutting_down", "5")
    assert (await door.get("/health")).status == 200


def test_which_header_wins():
    both = Headers({"authorization": "Bearer a", "x-api-key": "b"})
    assert credential_of(both) == "a"
    assert credential_of(Headers({"authorization": "Basic x", "api-key": "c"})) == "c"
    assert credential_of(Headers({"authorization": "bearer  d "})) == "d"
    assert credential_of(Headers({"authorization": "Bearer"})) == ""
    assert credential_of(Headers({"x-admin-key": "e"})) == ""
