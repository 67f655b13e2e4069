"""The configuration: where a value comes from, and which sentence answers one that cannot be used."""

import base64
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llmux.config import DEFAULT_PROVIDERS, ENVIRONMENT, Limits, Settings, http_url, load
from llmux.config.checks import ZERO_IS_OFF
from llmux.failures import ConfigurationWrong

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
SECRET = "0123456789abcdef-a-good-secret"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def read(home: Path, toml: str = "", *, demo: bool = False, **environ: str) -> Settings:
    """The configuration from this text and this environment, and nothing else."""
    file = home / "llmux.toml"
    file.write_text(toml, "utf-8")
    return load({"HOME": str(home), "LLMUX_CONFIG": str(file), **environ}, demo=demo)


def refusal(home: Path, toml: str = "", **environ: str) -> str:
    with pytest.raises(ConfigurationWrong) as refused:
        read(home, toml, **environ)
    return str(refused.value)


# --- where a value comes from ----------------------------------------------------------------------------------------


def documented() -> dict[str, str]:
    """Variable -> default, as README's table has them; "" where it says something else than a value."""
    rows = re.findall(r"^\| `([A-Z_]+)` \|([^|]*)\|", README, re.MULTILINE)
    return {name: default.strip(" `") if "`" in default else "" for name, default in rows}


def test_readme_names_every_variable_with_its_default(home: Path):
    table = documented()
    others = {"OLLAMA_HOST", "LLMUX_CHAIN_KEY", "LLMUX_DATA_DIR", "LLMUX_CONFIG"}
    assert table.keys() == ENVIRONMENT.keys() | others
    defaults = read(home)
    for name, (field, _) in ENVIRONMENT.items():
        given = read(home, **{name: table[name]})  # an empty variable is one that is not set
        assert getattr(given, field) == getattr(defaults, field), name
        if not table[name]:
            assert not getattr(defaults, field), name
    assert defaults.providers["ollama"].url == table["OLLAMA_HOST"]
    assert defaults.data_dir == Path(table["LLMUX_DATA_DIR"].replace("~", str(home)))
    file = Path(table["LLMUX_CONFIG"].replace("~", str(home)))
    file.parent.mkdir(parents=True)
    file.write_text("[server]\nport = 4321")
    assert load({"HOME": str(home)}).port == 4321


def test_without_a_file_everything_has_its_default(home: Path):
    settings = load({"HOME": str(home)})
    assert settings == read(home)
    assert settings.limits == Limits()
    assert {name: (p.kind, p.weight, p.enabled) for name, p in settings.providers.items()} == {
        "claude": ("claude", 50, True),
        "gemini": ("gemini", 30, True),
        "codex": ("codex", 15, True),
        "ollama": ("ollama", 5, True),
    }


def test_the_environment_wins_over_the_file(home: Path):
    toml = """
    [server]
    host = "127.0.0.2"
    port = 1111
    default_provider = "gemini"
    request_timeout_ms = 1
    allowed_hosts = ["file.example"]
    shutdown_grace_ms = 0
    key_revoke_streams = "finish"
    [cache]
    ttl_ms = 2
    entries_max = 3
    bytes_max = 4
    [content]
    record = true
    retention_days = 5
    [providers.ollama]
    url = "http://file:1"
    """
    of_file = read(home, toml)
    assert (of_file.host, of_file.port, of_file.default_provider) == ("127.0.0.2", 1111, "gemini")
    assert (of_file.request_timeout_ms, of_file.shutdown_grace_ms, of_file.key_revoke_streams) == (1, 0, "finish")
    assert of_file.allowed_hosts == ("file.example",)
    assert (of_file.cache_ttl_ms, of_file.cache_entries_max, of_file.cache_bytes_max) == (2, 3, 4)
    assert (of_file.record_content, of_file.content_retention_days) == (True, 5)
    assert of_file.providers["ollama"].url == "http://file:1"
    environ = {
        "HOST": "127.0.0.3", "PORT": "2222", "DEFAULT_PROVIDER": "codex", "REQUEST_TIMEOUT": "11",
        "ALLOWED_HOSTS": "one.example, two.example", "SHUTDOWN_GRACE": "12", "KEY_REVOKE_STREAMS": "cut",
        "CACHE_TTL": "13", "CACHE_MAX_SIZE": "0",
        "OLLAMA_HOST": "environment:2", "API_KEY_REQUIRED": "yes", "API_KEY": SECRET, "ADMIN_KEY": SECRET.upper(),
        "LLMUX_SECRET": "s", "LLMUX_DATA_DIR": str(home / "elsewhere"),
        "RECORD_CONTENT": "false", "CONTENT_RETENTION_DAYS": "6",
    }  # fmt: skip
    both = read(home, toml, **environ)
    assert (both.host, both.port, both.default_provider) == ("127.0.0.3", 2222, "codex")
    assert (both.request_timeout_ms, both.shutdown_grace_ms, both.key_revoke_streams) == (11, 12, "cut")
    assert both.allowed_hosts == ("one.example", "two.example")
    assert (both.cache_ttl_ms, both.cache_entries_max, both.cache_bytes_max) == (13, 0, 4)
    assert both.providers["ollama"].url == "http://environment:2"
    assert (both.api_key_required, both.api_key, both.admin_key) == (True, SECRET, SECRET.upper())
    assert (both.record_content, both.content_retention_days) == (False, 6)
    assert (both.secret, both.data_dir) == ("s", home / "elsewhere")


@pytest.mark.parametrize("name", DEFAULT_PROVIDERS)
def test_a_table_of_a_provider_keeps_the_defaults_it_does_not_name(home: Path, name: str):
    defaults = read(home).providers
    changed = read(home, f"[providers.{name}]\nweight = 77\nenv = {{ A = 'b' }}").providers
    assert (changed[name].weight, changed[name].env) == (77, {"A": "b"})
    for field in set(defaults[name].__struct_fields__) - {"weight", "env"}:
        assert getattr(changed[name], field) == getattr(defaults[name], field), field
    assert {n: p for n, p in changed.items() if n != name} == {n: p for n, p in defaults.items() if n != name}


def test_a_provider_of_an_own_name_is_one_more(home: Path):
    toml = """
    [providers.second]
    kind = "ollama"
    url = "gpu.internal"
    default_model = "tiny:latest"
    [[providers.second.accounts]]
    name = "a"
    [[providers.second.accounts]]
    name = "b"
    config_dir = "/b"
    [models.aliases]
    "gpt-4o" = "second/tiny:latest"
    """
    settings = read(home, toml)
    second = settings.providers["second"]
    assert (second.url, second.models) == ("http://gpu.internal:11434", ("tiny:latest",))
    assert [(account.name, account.config_dir) for account in second.accounts] == [("a", ""), ("b", "/b")]
    assert settings.aliases == {"gpt-4o": "second/tiny:latest"}
    assert list(settings.providers) == [*DEFAULT_PROVIDERS, "second"]


def test_a_codex_with_the_models_of_an_ollama_needs_no_more_than_a_model(home: Path):
    toml = "[providers.codex-oss]\nkind = 'codex'\noss = true\ndefault_model = 'qwen3:14b'"
    local = read(home, toml).providers["codex-oss"]
    assert (local.command, local.base_url, local.weight) == ("codex", "http://127.0.0.1:11434/v1", 0)
    elsewhere = read(home, f"{toml}\nbase_url = 'http://gpu:11434/v1'\nweight = 3").providers["codex-oss"]
    assert (elsewhere.base_url, elsewhere.weight) == ("http://gpu:11434/v1", 3)


def test_the_default_model_is_always_among_the_models(home: Path):
    toml = "[providers.claude]\ndefault_model = 'new'\n[providers.codex]\ndefault_model = 'gpt-5.1-codex-max'"
    providers = read(home, toml).providers
    assert providers["claude"].models == ("new", *DEFAULT_PROVIDERS["claude"]["models"])
    assert providers["codex"].models == DEFAULT_PROVIDERS["codex"]["models"], "one that is listed keeps its place"
    for settings in (read(home), read(home, demo=True)):
        for name, provider in settings.providers.items():
            assert provider.default_model in provider.models, name


def test_the_demo_has_stand_ins_and_asks_nobody(home: Path):
    toml = "[providers.claude]\nweight = 1\n[providers.mine]\nkind = 'scripted'\ndefault_model = 'x'"
    settings = read(home, toml, demo=True, DEFAULT_PROVIDER="gemini", PORT="1234")
    assert list(settings.providers) == [f"{name}-demo" for name in DEFAULT_PROVIDERS]
    assert {provider.kind for provider in settings.providers.values()} == {"scripted"}
    for name, defaults in DEFAULT_PROVIDERS.items():
        stand_in = settings.providers[settings.provider_named(name)]
        assert (stand_in.weight, stand_in.models) == (defaults["weight"], defaults["models"])
    assert (settings.default_provider, settings.port) == ("gemini-demo", 1234)
    assert read(home, demo=True).default_provider == "claude-demo"
    assert read(home).stand_ins == {}


# --- what cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[serve]", "'serve' means nothing here"),
        ("[server]\nprot = 1", "[server]: 'prot' means nothing here"),
        ("[cache]\nsize = 1", "[cache]: 'size' means nothing here"),
        ("[models.alias]\na = 'b'", "[models]: 'alias' means nothing here"),
        ("[limits]\nbody_max = 1", "[limits]: 'body_max' means nothing here"),
        ("[providers.claude]\nwieght = 1", "[providers.claude]: 'wieght' means nothing here"),
        ("[[providers.claude.accounts]]\nnam = 'a'", "[providers.claude]: accounts[0]"),
    ],
)
def test_a_name_that_means_nothing_is_refused(home: Path, toml: str, said: str):
    assert said in refusal(home, toml)


@pytest.mark.parametrize(
    "path", ["server", "models", "models.aliases", "limits", "cache", "providers", "providers.codex", "prices"]
)
@pytest.mark.parametrize("value", ["5", "'x'", "[]", "[{}]", "true"])
def test_what_is_no_table_is_refused(home: Path, path: str, value: str):
    assert f"'{path}' is not a table; write [{path}]" in refusal(home, f"{path} = {value}")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[server]\nport = 'x'", "[server]: port: Expected `int`, got `str`"),
        ("[server]\nport = true", "[server]: port: Expected `int`, got `bool`"),
        ("[server]\ndefault_provider = 5", "[server]: default_provider: Expected `str`"),
        ("[server]\nallowed_hosts = 'x'", "[server]: allowed_hosts: Expected `array`"),
        ("[cache]\nttl_ms = 1.5", "[cache]: ttl_ms: Expected `int`, got `float`"),
        ("[limits]\nmailbox_max = 'x'", "[limits]: mailbox_max: Expected `int`"),
        ("[models.aliases]\na = 5", "[models.aliases]: 'a': Expected `str`"),
        ("[providers.claude]\nweight = 'x'", "[providers.claude]: weight: Expected `int`"),
        ("[providers.claude]\nmodels = [1]", "[providers.claude]: models[0]: Expected `str`"),
        ("[providers.claude.env]\nA = 1", "[providers.claude]: env[...]: Expected `str`"),
    ],
)
@pytest.mark.parametrize("demo", [False, True])
def test_a_value_of_another_type_is_refused_by_its_place(home: Path, toml: str, said: str, demo: bool):
    if demo and "providers" in toml:
        assert read(home, toml, demo=True), "the demo asks no provider, and reads no table of one"
        return
    with pytest.raises(ConfigurationWrong) as refused:
        read(home, toml, demo=demo)
    assert said in str(refused.value)
    assert "$" not in str(refused.value)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[providers.x]\nweight = 1", "[providers.x] needs kind = one of claude, "),
        ("[providers.x]\nkind = 'scripted'", "[providers.x] needs default_model"),
        ("[providers.x]\nkind = 'bard'\ndefault_model = 'x'", "[providers.x]: kind is 'bard'"),
        ("[providers.'My one']\nkind = 'scripted'", "'My one' is no name for a provider"),
        ("[providers.claude]\noss = true", "[providers.claude]: oss is for providers of the kind codex"),
        ("[providers.codex]\ndefault_model = '-x'", "[providers.codex]: default_model: '-x' is no name"),
        ("[providers.codex]\nmodels = ['']", "[providers.codex]: models: '' is no name"),
        ("[providers.codex.upstream]\nx = '--yolo'", "[providers.codex]: upstream: '--yolo' is no name"),
        ("[providers.codex]\naccounts = []", "[providers.codex]: accounts: "),
        ("[providers.codex]\naccounts = [{}, {}]", "[providers.codex]: accounts: "),
        ("[providers.codex]\nweight = -1", "[providers.codex]: weight is -1"),
        ("[providers.codex]\nconcurrency = 0", "[providers.codex]: concurrency is 0"),
        ("[providers.codex]\nwarm = 65", "[providers.codex]: warm is 65"),
        ("[providers.claude]\nenabled = false", "DEFAULT_PROVIDER: Unknown provider: claude"),
        ("[models.aliases]\nauto = 'x'", "[models.aliases]: 'auto' cannot stand for 'x'"),
        ("[models.aliases]\nx = '-x'", "[models.aliases]: 'x' cannot stand for '-x'"),
        ("[server]\nport = -1", "PORT is -1"),
        ("[server]\nhost = ''", "HOST is ''"),
        ("[server", "is not valid TOML"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_place(home: Path, toml: str, said: str):
    assert said in refusal(home, toml)


def amounts() -> list[Any]:
    of_limits = [("limits", field) for field in Limits.__struct_fields__]
    of_server = [("server", "request_timeout_ms"), ("server", "shutdown_grace_ms")]
    of_cache = [("cache", "ttl_ms"), ("cache", "entries_max"), ("cache", "bytes_max")]
    of_claude = [("providers.claude", field) for field in ("cooldown_ms", "first_byte_ms_max", "idle_ms_max")]
    return of_limits + of_server + of_cache + of_claude


@pytest.mark.parametrize(("table", "field"), amounts())
def test_every_limit_and_every_duration_has_a_least_value(home: Path, table: str, field: str):
    """Zero is only for what it switches off; less than nothing is nowhere a limit."""
    least = 0 if field in ZERO_IS_OFF or f"{table}_{field}" in ZERO_IS_OFF else 1
    read(home, f"[{table}]\n{field} = {least}")
    for value in (least - 1, 10**30):
        said = refusal(home, f"[{table}]\n{field} = {value}")
        assert field in said
        assert f"is {value}; write {least} to " in said


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PORT": "70000"}, "PORT is 70000"),
        ({"PORT": "²"}, "PORT is '²'"),
        ({"PORT": "-1"}, "PORT is '-1'"),
        ({"REQUEST_TIMEOUT": "0"}, "REQUEST_TIMEOUT"),
        ({"API_KEY_REQUIRED": "perhaps"}, "API_KEY_REQUIRED is 'perhaps'"),
        ({"DEFAULT_PROVIDER": "bard"}, "DEFAULT_PROVIDER"),
        ({"HOST": "0.0.0.0"}, "ALLOW_UNAUTHENTICATED=true"),
        ({"HOST": "a b"}, "HOST is 'a b'"),
        ({"API_KEY_REQUIRED": "true"}, "POST /admin/api-keys"),
        ({"API_KEY": SECRET, "ADMIN_KEY": SECRET}, "are the same"),
        (
            {"KEY_REVOKE_STREAMS": "maybe"},
            "KEY_REVOKE_STREAMS ([server] key_revoke_streams) is 'maybe'; write cut or finish",
        ),
        ({"RECORD_CONTENT": "true"}, "Set CONTENT_RETENTION_DAYS"),
        ({"RECORD_CONTENT": "true", "CONTENT_RETENTION_DAYS": ""}, "Set CONTENT_RETENTION_DAYS"),
        ({"CONTENT_RETENTION_DAYS": "0"}, "CONTENT_RETENTION_DAYS is 0; write 1 to"),
        ({"CONTENT_RETENTION_DAYS": "36501"}, "CONTENT_RETENTION_DAYS is 36501"),
        ({"CONTENT_RETENTION_DAYS": "for ever"}, "CONTENT_RETENTION_DAYS is 'for ever'"),
        ({"LLMUX_DATABASE_URL": "postgresql://me:geheim@host"}, "LLMUX_DATABASE_URL"),
        ({"LLMUX_CONFIG": "/nowhere/llmux.toml"}, "/nowhere/llmux.toml"),
        ({"LLMUX_CONFIG": "/"}, "cannot be read"),
    ],
)
def test_a_variable_that_cannot_be_is_refused_by_its_name(home: Path, environ: dict[str, str], said: str):
    assert said in refusal(home, **environ)


@pytest.mark.parametrize("name", ["API_KEY", "ADMIN_KEY"])
@pytest.mark.parametrize(
    ("key", "what"),
    [
        *(
            (sample, "is a sample or too short")
            for sample in (
                "your-admin-secret", "sk-default-key", "Sk-Your-API-Key", "sk-your-api-key-here", "password", "tooshort9",
                "x" * 15, "<your admin key here>", "${ADMIN_KEY_OF_THE_HOST}", "sk-lmx_AbCdEfGh_...", "change-me-in-production",
                "replace_with_a_long_random_secret", "my-super-secret-admin-key", "the admin's secret key 123", "0123456789012345",
            )
        ),
        *((easy, "is too easy to guess") for easy in ("abababab" * 3, "q9w8e7r6" * 4, "1212343412123434")),
        *((odd, "no client can send") for odd in ("schl\u00fcssel-mit-umlaut-7731", "f3b8c1d09e7a4526 ", "f3b8c1d09e7a4526\n")),
    ],
)  # fmt: skip
def test_a_sample_or_a_short_or_a_simple_text_is_no_secret(home: Path, name: str, key: str, what: str):
    said = refusal(home, **{name: key})
    assert said.startswith(f"{name} ")
    assert what in said
    assert key.strip() not in said


def test_every_sample_of_our_own_documents_is_refused(home: Path):
    """Whoever copies a line must not open the gateway to everybody who can read it."""
    root = Path(__file__).parents[1]
    pages = [
        root / "README.md",
        root / "compose.yaml",
        *sorted((root / "docs").glob("*.md")),
        *sorted((root / "deploy").rglob("*")),
    ]
    found = []
    for page in pages:
        if page.is_file():
            found += re.findall(
                r"(?:X-Admin-Key: ?|\b(?:ADMIN_KEY|API_KEY)[=:] ?)\"?([^\s\"'`|,]+)", page.read_text("utf-8")
            )
    for sample in found:
        if not sample.startswith("$"):  # a variable of the reader's shell
            refusal(home, ADMIN_KEY=sample)


def test_what_a_random_generator_says_is_a_secret(home: Path):
    seed = 20_261_127
    print("seed", seed)
    random = Random(seed)
    for _ in range(300):
        hexes, words = random.randbytes(32).hex(), base64.b64encode(random.randbytes(18)).decode()
        read(home, ADMIN_KEY=hexes, API_KEY=words)


def test_keys_open_a_door_that_others_can_reach(home: Path):
    for environ in ({"API_KEY": SECRET}, {"ADMIN_KEY": SECRET}):
        assert read(home, HOST="0.0.0.0", API_KEY_REQUIRED="true", **environ).api_key_required
    assert read(home, HOST="0.0.0.0", ALLOW_UNAUTHENTICATED="true").allow_unauthenticated
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert read(home, HOST=host).host == host


# --- Ollama's address ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("127.0.0.1:1234", "http://127.0.0.1:1234"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("gpu.internal", "http://gpu.internal:11434"),
        ("http://gpu.internal", "http://gpu.internal:80"),
        ("https://gpu.internal", "https://gpu.internal:443"),
        ("https://gpu.internal:1/ollama/", "https://gpu.internal:1/ollama"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("[::]", "http://[::1]:11434"),
        (' "gpu:1" ', "http://gpu:1"),
    ],
)
def test_every_form_of_ollamas_own_variable_is_an_address(home: Path, text: str, url: str):
    assert http_url(text) == url
    assert read(home, OLLAMA_HOST=text).providers["ollama"].url == url


@pytest.mark.parametrize(
    "text", ["ftp://x", "http://", "x:99999", "x:y", "a b", "http://x?geheim", "http://x#geheim", "::1", "@"]
)
def test_what_is_no_address_is_refused(home: Path, text: str):
    assert refusal(home, OLLAMA_HOST=text).startswith("OLLAMA_HOST is no address of an Ollama server")
    assert "[providers.ollama]: url is no address" in refusal(home, f"[providers.ollama]\nurl = '{text}'")


@pytest.mark.parametrize("address", ["http://me:geheim@host", "me:geheim@host:11434", "https://geheim@host/x"])
def test_the_password_of_an_address_is_never_repeated(home: Path, address: str):
    """Wherever it was written by mistake: a sentence ends in a terminal, a journal, a bug report."""
    tables = [
        f"[server]\nhost = '{address}'",
        f"[server]\ndefault_provider = '{address}'",
        f"[providers.ollama]\nurl = '{address}'",
        f"[providers.ollama]\ndefault_model = '-{address}'",
        f"[providers.ollama]\nkind = '{address}'",
        f"[models.aliases]\nx = '-{address}'",
        f"[providers.'{address}']\nkind = 'ollama'",
        f"'{address}' = 1",
    ]
    sentences = [refusal(home, toml) for toml in tables]
    variables = (
        "OLLAMA_HOST",
        "HOST",
        "PORT",
        "DEFAULT_PROVIDER",
        "API_KEY_REQUIRED",
        "LLMUX_DATABASE_URL",
        "CACHE_TTL",
    )
    for name in variables:
        sentences.append(refusal(home, **{name: address}))
        assert name in sentences[-1]
    for sentence in sentences:
        assert "geheim" not in sentence


# --- Redis -------------------------------------------------------------------------------------------------------------


GOOD_REDIS = {"REDIS_URL": "redis://127.0.0.1:6379/0", "REDIS_NAMESPACE": "home", "LLMUX_SECRET": SECRET}


def test_redis_needs_a_secret_and_a_namespace_that_gateways_share(home: Path):
    assert read(home, **GOOD_REDIS).redis_namespace == "home"
    for url in ("rediss://ann:pass%40word@redis.example:6380", "redis://[::1]:6379/15", "redis://cache"):
        assert read(home, **{**GOOD_REDIS, "REDIS_URL": url}).redis_url == url
    assert "LLMUX_SECRET" in refusal(home, **{**GOOD_REDIS, "LLMUX_SECRET": ""})
    assert "too short" in refusal(home, **{**GOOD_REDIS, "LLMUX_SECRET": "short"})
    for namespace in ("", "Two Words", "a*", "x" * 40):
        assert "REDIS_NAMESPACE" in refusal(home, **{**GOOD_REDIS, "REDIS_NAMESPACE": namespace})


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379",
        "http://:pass-word@host",
        "redis://:pass-word@",
        "redis://:pass-word@host:port",
        "redis://:pass-word@host:99999",
        "redis://:pass-word@host/0?ssl_cert_reqs=none",
        "redis://:pass-word@host/zero",
        "redis://:pass-word@[::1",
    ],
)
def test_an_address_of_redis_that_cannot_be_used_is_refused_and_not_repeated(home: Path, url: str):
    said = refusal(home, **{**GOOD_REDIS, "REDIS_URL": url})
    assert said.startswith("REDIS_URL is no address")
    assert "pass-word" not in said
