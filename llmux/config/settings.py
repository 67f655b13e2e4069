"""Every setting, with its default and its limit: one frozen value. Units stand last in a name: `_ms`, `_bytes`, `_max` for limits."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from llmux.config.prices import PriceList
from llmux.failures import ProviderUnknown

KINDS = ("claude", "gemini", "codex", "ollama", "scripted")
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@=,+\[\]-]{0,199}")
ABILITIES: Mapping[str, tuple[str, ...]] = {
    "claude": ("completion", "vision", "thinking"),
    "gemini": ("completion", "vision", "thinking"),
    "codex": ("completion", "vision", "thinking"),
    "ollama": ("completion", "embedding"),
    "scripted": ("completion", "embedding"),
}
"""what the models of a kind of provider can do, as far as it is the same for all of them, in Ollama's words"""
CONTEXT_TOKENS: Mapping[str, int] = {
    "claude": 200_000,
    "gemini": 1_048_576,
    "codex": 272_000,
    "ollama": 4_096,
    "scripted": 1_048_576,
}
"""how long a prompt the models of a kind of provider take in, as their vendor says; Ollama: unless its user told it otherwise"""
SMART = frozenset({"auto", "smart"})


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen group of settings that knows all its fields."""


class Account(Struct, frozen=True):
    """One login of a provider. `config_dir` is where its CLI keeps that login ("" = the CLI's own default place)."""

    name: str = "default"
    config_dir: str = ""


class ProviderSettings(Struct, frozen=True):
    """How one provider is reached and how much of the traffic it gets."""

    kind: str
    enabled: bool = True
    command: str = ""
    """the CLI: a name on PATH or an absolute path"""
    url: str = ""
    """ollama: the server"""
    base_url: str = ""
    """codex: the upstream written into its generated config.toml ("" = the vendor's)"""
    oss: bool = False
    """codex: its models are those of an Ollama of one's own, at `base_url`, and there is no login"""
    weight: int = 1
    """share of the traffic, relative to the other providers; 0 = only when asked for by name, or as the last resort"""
    default_model: str = ""
    models: tuple[str, ...] = ()
    upstream: Mapping[str, str] = {}
    """model as clients name it -> model as the provider must be told, where they differ"""
    warm: int = 1
    """workers kept ready (per used model where the model is fixed at the start of a process)"""
    concurrency: int = 4
    """attempts at the same time"""
    env: Mapping[str, str] = {}
    """all that the CLI's process gets beyond the minimal environment"""
    accounts: tuple[Account, ...] = (Account(),)
    cooldown_ms: int = 600_000
    """rest after a spent quota whose end the provider does not tell"""
    first_byte_ms_max: int = 60_000
    idle_ms_max: int = 60_000

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors of texts."""
        return "embedding" in ABILITIES.get(self.kind, ())


class Limits(Struct, frozen=True):
    """What is bounded, and how far. Every queue, body, wait and file of the gateway has its line here."""

    body_bytes_max: int = 10 * 1024 * 1024
    body_wait_ms_max: int = 30_000
    header_bytes_max: int = 32 * 1024
    headers_max: int = 100
    """fields in the head of a request"""
    header_wait_ms_max: int = 10_000
    """for the whole head of a request, from its first byte on"""
    messages_max: int = 2_000
    json_depth_max: int = 64
    stop_sequences_max: int = 16
    embedding_inputs_max: int = 2_048
    """texts whose vectors one request may ask for"""
    connections_max: int = 2_000
    control_connections_max: int = 64
    """at the control socket, which stays open to its owner when all others are taken"""
    connection_idle_ms_max: int = 75_000
    """a connection on which nothing is asked for this long is closed"""
    mailbox_max: int = 4_096
    ask_ms_max: int = 10_000
    flights_max: int = 1_000
    provider_queue_max: int = 64
    provider_queue_wait_ms_max: int = 30_000
    provider_queue_moment_ms_max: int = 1_000
    """the same, for a request that has other routes to go"""
    answer_bytes_max: int = 16 * 1024 * 1024
    line_bytes_max: int = 16 * 1024 * 1024
    stderr_tail_bytes_max: int = 16 * 1024
    stop_ms_max: int = 1_000
    """how long a process may take to end after SIGTERM before SIGKILL follows"""
    call_ms_max: int = 15_000
    """how long a provider's program may take to acknowledge one call of its own protocol (not to answer a prompt)"""
    worker_idle_ms_max: int = 300_000
    """a warm process beyond what the settings ask for that nobody needs for so long is ended; of a model that is not used, all"""
    worker_age_ms_max: int = 600_000
    """a warm process that has waited for so long is replaced by a new one"""
    worker_memory_bytes_max: int = 640 * 1024 * 1024
    """a process that answers many prompts and has grown beyond this is replaced; its own answers are finished first"""
    worker_turns_max: int = 5_000
    """the same, after so many prompts"""
    probe_ms_max: int = 10_000
    probe_interval_ms: int = 60_000
    deep_check_ms_max: int = 30_000
    """how long a provider may take to answer a deep health check"""
    deep_check_fresh_ms: int = 60_000
    """how long everybody gets the results of the last one"""
    usage_interval_ms: int = 600_000
    """between two looks at the state of a subscription's quota that cost no tokens"""
    refusal_ms: int = 600_000
    """how long a login that was refused is left alone; without a network, a good login can look refused"""
    cooldown_ms_max: int = 7 * 24 * 3_600_000
    """a reset time further away than this is not believed"""
    append_rows_max: int = 512
    append_ms_max: int = 30_000
    busy_ms_max: int = 5_000
    read_rows_max: int = 1_000
    content_row_bytes_max: int = 8 * 1024 * 1024
    """what is kept of one request, prompt and answer together; what is larger is not kept"""
    content_bytes_max: int = 1024 * 1024 * 1024
    """the file of kept texts; beyond this nothing new is kept until something is forgotten"""
    content_waiting_max: int = 1_024
    content_waiting_bytes_max: int = 64 * 1024 * 1024
    """texts in memory that are not yet written"""
    forget_ms_max: int = 120_000
    kept_responses_max: int = 1_000
    """responses of /v1/responses in memory that a client can continue; beyond this the oldest go"""
    kept_responses_bytes_max: int = 64 * 1024 * 1024
    kept_responses_ms_max: int = 3_600_000
    cache_ttl_ms_max: int = 7 * 24 * 3_600_000
    """what a request may ask for as the time for which its answer is kept"""
    redis_wait_ms_max: int = 100
    """for one answer of Redis, a connection to it included"""
    redis_rest_ms: int = 1_000
    """how long Redis is left alone after it did not answer; twice as long each time in a row"""
    redis_rest_ms_max: int = 30_000
    redis_connections_max: int = 8
    redis_value_bytes_max: int = 4 * 1024 * 1024
    """an answer that is larger is not kept in Redis"""
    redis_clear_ms_max: int = 10_000
    archive_ms_max: int = 3_600_000
    """how long whoever asks for archiving waits for its end; it goes on without them"""
    archivings_waiting_max: int = 4
    snapshot_events: int = 50_000
    """after so many events the state is stored anew, so that a start need not fold them"""
    restarts_max: int = 3
    restart_window_ms: int = 5_000
    keep_alive_ms: int = 15_000
    """a comment is sent on a stream after this much silence"""
    client_stall_ms_max: int = 60_000
    """a client that takes no byte for this long is cut off"""
    farewell_ms_max: int = 3_000
    """how long, after `shutdown_grace_ms`, what is still under way may take to end with an error"""
    idempotency_wait_ms_max: int = 30_000
    """how long a request with an idempotency key goes on when its client has gone, who may ask again"""
    idempotency_waiting_max: int = 256
    """requests that do; beyond it, one that loses its client is cancelled at once"""
    idempotency_answer_ms_max: int = 3_600_000
    """how long an answer can be told again under its idempotency key"""
    idempotency_answers_max: int = 1_000
    idempotency_bytes_max: int = 64 * 1024 * 1024
    """answers that can be told again, together; beyond this the oldest go"""
    resumable_wait_ms_max: int = 60_000
    """how long a resumable stream that nobody reads waits for a reader before it is let go"""
    resumable_streams_max: int = 256
    resumable_bytes_max: int = 64 * 1024 * 1024
    """the answers of all resumable streams that nobody reads, together; beyond this the oldest are let go"""


class Settings(Struct, frozen=True):
    """The whole configuration."""

    host: str = "127.0.0.1"
    port: int = 8765
    default_provider: str = "claude"
    request_timeout_ms: int = 120_000
    api_key_required: bool = False
    api_key: str = ""
    admin_key: str = ""
    key_revoke_streams: str = "cut"
    """what becomes of a key's open requests when it is revoked, rotated or expires: "cut" or "finish\""""
    allow_unauthenticated: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cache_ttl_ms: int = 3_600_000
    cache_entries_max: int = 1_000
    cache_bytes_max: int = 64 * 1024 * 1024
    cache_shared: bool = False
    """projects share their cached answers and the flights of equal requests"""
    redis_url: str = ""
    """where cached answers are instead of memory; it may hold a password, so it is never shown"""
    redis_namespace: str = ""
    """gateways with the same one, and the same secret, share their answers"""
    shutdown_grace_ms: int = 10_000
    record_content: bool = False
    """the text of all prompts and answers is kept, in a file outside the log; keys can ask for it one by one"""
    content_retention_days: int | None = None
    """how long text is kept; nothing is kept where this is not set"""
    chain_keys: tuple[str, ...] = ()
    """what the hashes of the log are keyed with: the present key last, before it those of earlier times"""
    chain_key_file: str = ""
    """where they were read from ("" = the environment)"""
    witness_file: str = ""
    """where the head of the log is witnessed ("" = witness.json in the data directory)"""
    log_bytes_max: int = 8 * 1024**3
    """the log's file; at 80 % there are warnings, beyond it no new requests are taken on (0 = no limit)"""
    archive_after_days: int | None = None
    """each day, what is older than so many days moves into archives; nothing does where this is not set"""
    secret: str = ""
    """what fingerprints are keyed with ("" = a file made in the data directory)"""
    data_dir: Path = Path.home() / ".local/share/llmux"
    providers: Mapping[str, ProviderSettings] = {}
    aliases: Mapping[str, str] = {}
    """name a client asks for -> model or provider/model"""
    stand_ins: Mapping[str, str] = {}
    """name of a provider that is asked for -> provider that answers in its place (the demo)"""
    prices: PriceList = PriceList()
    """own prices, for estimates; they count before the published ones"""
    limits: Limits = Limits()

    @property
    def witness(self) -> Path:
        """The file in which the head of the log is witnessed."""
        return Path(self.witness_file).expanduser().absolute() if self.witness_file else self.data_dir / "witness.json"

    def provider_named(self, name: str) -> str:
        """The enabled provider that is meant by `name`. Raises ProviderUnknown."""
        name = self.stand_ins.get(name, name)
        provider = self.providers.get(name)
        if provider is None or not provider.enabled:
            raise ProviderUnknown(name, tuple(n for n, p in self.providers.items() if p.enabled))
        return name

    def routing(self) -> dict[str, Any]:
        """The routing configuration without anything secret: what the log keeps of it."""
        return {
            "default_provider": self.default_provider,
            "aliases": dict(self.aliases),
            "order": list(self.providers),
            "providers": {
                name: {
                    "kind": p.kind,
                    "enabled": p.enabled,
                    "weight": p.weight,
                    "default_model": p.default_model,
                    "models": list(p.models),
                    "accounts": [account.name for account in p.accounts],
                    "concurrency": p.concurrency,
                    "cooldown_ms": p.cooldown_ms,
                }
                for name, p in self.providers.items()
            },
        }


def replaced(settings: Settings, **changes: Any) -> Settings:
    """The same configuration with some values changed."""
    return msgspec.structs.replace(settings, **changes)
