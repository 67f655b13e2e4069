"""A stand-in of Google: the Gemini API (API key), Code Assist (Google login), and the OAuth hosts behind an HTTPS proxy.

    python -m tests.upstreams.gemini --port 0 [--certificates FOLDER]

Plain HTTP serves GOOGLE_GEMINI_BASE_URL and CODE_ASSIST_ENDPOINT. With --certificates it prints `CA <file>` and `PROXY <port>`
too: HTTPS_PROXY=http://127.0.0.1:<port> and NODE_EXTRA_CA_CERTS=<file> bring the hosts here that the CLI has built in.

Modes (POST /_ctl): `mode` is one of ERRORS or of the names in `_stream`, `[[mode]]` in the user's last text wins; `times` bounds
how often it is used; `text` is the answer (else the user's last text comes back), cut into `pieces`, with `pause_ms` between
them; `thoughts`, `cached` count tokens; `previews` false takes the preview models from the account; `left` says
more of their quotas ({model: {"remainingFraction", "resetTime"}}); `login` is "ok", "revoked"
(no renewal), "refused" (Code Assist says 401) or "ineligible".
"""

import json
import re
from typing import Any

from tests.upstreams.loopback import Exchange, StandIn

HOSTS = ("oauth2.googleapis.com", "www.googleapis.com", "cloudcode-pa.googleapis.com", "play.googleapis.com")
_RPC = "type.googleapis.com/google.rpc."
_SPENT = "You exceeded your current quota, please check your plan and billing details."


def _info(reason: str, domain: str = "cloudcode-pa.googleapis.com", **metadata: str) -> dict[str, Any]:
    return {"@type": _RPC + "ErrorInfo", "reason": reason, "domain": domain, "metadata": metadata}


def _wait(text: str) -> dict[str, Any]:
    return {"@type": _RPC + "RetryInfo", "retryDelay": text}


def _violation(per: str, value: str = "15") -> dict[str, Any]:
    quota = f"GenerateRequestsPer{per}PerProjectPerModel-FreeTier"
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    return {
        "@type": _RPC + "QuotaFailure",
        "violations": [{"quotaMetric": metric, "quotaId": quota, "quotaValue": value}],
    }


ERRORS: dict[str, tuple[int, str, str, list[dict[str, Any]]]] = {
    "bad-request": (400, "INVALID_ARGUMENT", "Request contains an invalid argument.", []),
    "too-long": (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        [],
    ),
    "bad-key": (
        400,
        "INVALID_ARGUMENT",
        "API key not valid. Please pass a valid API key.",
        [_info("API_KEY_INVALID", "googleapis.com")],
    ),
    "unauthorized": (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", []),
    "forbidden": (403, "PERMISSION_DENIED", "The caller does not have permission", []),
    "verify": (
        403,
        "PERMISSION_DENIED",
        "Verify your account to continue.",
        [
            _info("VALIDATION_REQUIRED", validation_link="https://accounts.google.com/v/stand-in"),
            {
                "@type": _RPC + "Help",
                "links": [{"description": "Verify", "url": "https://accounts.google.com/v/stand-in"}],
            },
        ],
    ),
    "no-model": (404, "NOT_FOUND", "models/MODEL is not found for API version v1beta, or is not supported.", []),
    "limited": (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", []),
    "limited-minute": (
        429,
        "RESOURCE_EXHAUSTED",
        _SPENT + "\nPlease retry in 2.5s.",
        [_violation("Minute"), _wait("2.5s")],
    ),
    "limited-hour": (
        429,
        "RESOURCE_EXHAUSTED",
        _SPENT + "\nPlease retry in 3600s.",
        [_violation("Minute"), _wait("3600s")],
    ),
    "spent-day": (429, "RESOURCE_EXHAUSTED", _SPENT, [_violation("Day", "250"), _wait("35s")]),
    "spent-zero": (
        429,
        "RESOURCE_EXHAUSTED",
        _SPENT + "\n* Quota exceeded for metric: requests, limit: 0",
        [_violation("Minute", "0")],
    ),
    "spent": (
        429,
        "RESOURCE_EXHAUSTED",
        "You have exhausted your capacity on this model. Your quota will reset after 5h42m10s.",
        [_info("QUOTA_EXHAUSTED", quotaResetDelay="5h42m10.1s"), _wait("20530.1s")],
    ),
    "capacity": (
        429,
        "RESOURCE_EXHAUSTED",
        "No capacity available for model MODEL on the server",
        [_info("MODEL_CAPACITY_EXHAUSTED")],
    ),
    "broken": (500, "INTERNAL", "An internal error has occurred.", []),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", []),
}
"""mode -> HTTP status, Google's status, message (MODEL stands for the model's name), details"""

PREVIEWS = ("gemini-3-pro-preview", "gemini-3-flash-preview")
"""models of which the account has a quota: without them the CLI asks other models instead"""

_TIERS = {
    "currentTier": {"id": "free-tier", "name": "Gemini Code Assist for individuals"},
    "allowedTiers": [{"id": "free-tier", "name": "Gemini Code Assist for individuals", "isDefault": True}],
    "cloudaicompanionProject": "stand-in-project",
    "gcpManaged": False,
}
_INELIGIBLE = {
    "ineligibleTiers": [
        {
            "reasonCode": "UNSUPPORTED_LOCATION",
            "tierId": "free-tier",
            "tierName": "Gemini Code Assist for individuals",
            "reasonMessage": "Your current account is not eligible for Gemini Code Assist for individuals.",
        }
    ]
}


class Google(StandIn):
    """Google's model, login and proxy doors on loopback."""

    hosts = HOSTS

    def respond(self, exchange: Exchange) -> None:
        login, path = self.modes.get("login", "ok"), exchange.path
        if path == "/tokeninfo":
            scope = (
                "https://www.googleapis.com/auth/cloud-platform"  # the CLI splits it, and asks for a login without it
            )
            exchange.reply(400 if login == "revoked" else 200, {"expires_in": "3599", "aud": "x", "scope": scope})
        elif path == "/token" and login == "revoked":
            exchange.reply(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
        elif path == "/token":
            exchange.reply(200, {"access_token": "ya29.renewed", "expires_in": 3599, "token_type": "Bearer"})
        elif path.endswith("/userinfo"):
            exchange.reply(200, {"id": "1", "email": "somebody@example.com", "verified_email": True})
        elif match := re.fullmatch(r"/v1internal:(\w+)", path):
            self._code_assist(exchange, match[1], login)
        elif match := re.fullmatch(r"/v1beta/models/([^:]+):streamGenerateContent", path):
            self._generate(exchange, match[1], exchange.json(), wrapped=False)
        else:
            exchange.reply(404, _error("no-model", path))

    def _code_assist(self, exchange: Exchange, method: str, login: str) -> None:
        if method == "streamGenerateContent":
            body = exchange.json()
            self._generate(exchange, body["model"], body["request"], wrapped=True)
        elif method == "loadCodeAssist" and login == "refused":
            exchange.reply(401, _error("unauthorized", ""))
        elif method == "loadCodeAssist":
            exchange.reply(200, _INELIGIBLE if login == "ineligible" else _TIERS)
        elif method == "retrieveUserQuota":
            models = PREVIEWS if self.modes.get("previews", True) else PREVIEWS[:0]
            left = self.modes.get("left", {})
            buckets = [{"modelId": model, "remainingFraction": 0.5, **left.get(model, {})} for model in models]
            exchange.reply(200, {"buckets": buckets})
        elif method == "listExperiments":
            exchange.reply(200, {"flags": [], "experimentIds": []})
        else:
            exchange.reply(200, {})

    def _mode(self, text: str) -> str:
        if marked := re.findall(r"\[\[([a-z-]+)\]\]", text):
            return str(marked[-1])
        with self.lock:
            times = self.modes.get("times", -1)
            if times == 0:
                return "ok"
            self.modes["times"] = times - 1
            return str(self.modes.get("mode", "ok"))

    def _generate(self, exchange: Exchange, model: str, request: dict[str, Any], *, wrapped: bool) -> None:
        said = [part["text"] for part in request["contents"][-1]["parts"] if "text" in part]
        mode = exchange.record["mode"] = self._mode(said[-1] if said else "")
        if mode in ERRORS:
            error = _error(mode, model)
            exchange.reply(ERRORS[mode][0], error if wrapped else [error])
        elif mode == "drop":
            exchange.cut()
        elif mode == "hang":
            exchange.pause(60)
        else:
            self._stream(exchange, mode, model, self.modes.get("text") or (said[-1] if said else ""), wrapped)

    def _stream(self, exchange: Exchange, mode: str, model: str, text: str, wrapped: bool) -> None:
        exchange.start(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})

        def event(payload: dict[str, Any]) -> None:
            whole = {**payload, "modelVersion": model, "responseId": "stand-in"}
            chunk(json.dumps({"response": whole} if wrapped else whole))

        def chunk(data: str) -> None:
            raw = f"data: {data}\r\n\r\n".encode()
            exchange.write(b"%x\r\n%s\r\n" % (len(raw), raw))

        for number, payload in enumerate(self._payloads(mode, text)):
            if number and (pause_ms := self.modes.get("pause_ms", 0)):
                exchange.pause(pause_ms / 1000)
            event(payload)
            if number == 1 and mode == "cut":
                exchange.cut()
                return
            if number == 1 and mode == "half-event":
                chunk('{"candidates": [{"content"')
            if number == 1 and mode == "error-inside":
                chunk(json.dumps(_error("overloaded", model)))
                break
        exchange.write(b"0\r\n\r\n")

    def _payloads(self, mode: str, text: str) -> list[dict[str, Any]]:
        usage = {"promptTokenCount": 42, "candidatesTokenCount": 7, "totalTokenCount": 49}
        if thoughts := self.modes.get("thoughts", 0):
            usage |= {"thoughtsTokenCount": thoughts, "totalTokenCount": 49 + thoughts}
        if cached := self.modes.get("cached", 0):
            usage |= {"cachedContentTokenCount": cached}
        call = {"functionCall": {"name": "run_shell_command", "args": {"command": "touch /tmp/never"}}}
        if mode == "blocked":
            return [{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}]
        if mode in ("empty", "tool-call", "malformed-call"):
            finish = "MALFORMED_FUNCTION_CALL" if mode == "malformed-call" else "STOP"
            return [_candidate([call] if mode == "tool-call" else [{"text": ""}], finish, usage)]
        size = max(1, -(-len(text) // self.modes.get("pieces", 3)))
        pieces = [text[start : start + size] for start in range(0, len(text), size)] or [""]
        payloads = [_candidate([{"text": piece}]) for piece in pieces]
        if mode == "think":
            thought = [{"text": "**Planning**\nThinking about it.", "thought": True}]
            payloads[:0] = [_candidate(thought), _candidate(thought)]
        finish = {"max-tokens": "MAX_TOKENS", "safety": "SAFETY"}.get(mode, "STOP")
        return payloads if mode == "no-finish" else [*payloads, _candidate([{"text": ""}], finish, usage)]


def _candidate(
    parts: list[dict[str, Any]], finish: str | None = None, usage: dict[str, int] | None = None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish is None:
        return {"candidates": [candidate]}
    return {"candidates": [{**candidate, "finishReason": finish}], "usageMetadata": usage}


def _error(mode: str, model: str) -> dict[str, Any]:
    code, status, message, details = ERRORS[mode]
    error: dict[str, Any] = {"code": code, "message": message.replace("MODEL", model), "status": status}
    return {"error": error | ({"details": details} if details else {})}


if __name__ == "__main__":
    Google().main()
