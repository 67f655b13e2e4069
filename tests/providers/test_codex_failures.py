"""Codex's error signs and the kinds of failure they stand for."""

from typing import Any

import pytest

from llmux.failures import Kind
from llmux.providers.codex.failures import again, failure_of, incomplete, rpc_failure, turn_error


def kind_of(info: Any, message: str = "") -> Kind:
    return failure_of(turn_error({"codexErrorInfo": info, "message": message}), None).kind


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        ("usageLimitExceeded", Kind.QUOTA_EXHAUSTED),
        ("rateLimitExceeded", Kind.RATE_LIMITED),
        ("serverOverloaded", Kind.OVERLOADED),
        ("modelNotFound", Kind.MODEL_NOT_FOUND),
        ("contextWindowExceeded", Kind.CONTEXT_TOO_LONG),
        ("unauthorized", Kind.LOGGED_OUT),
        ("badRequest", Kind.INVALID_REQUEST),
        ("cyberPolicy", Kind.REFUSED),
        ("internalServerError", Kind.UNAVAILABLE),
        ("a sign of next year", Kind.UNAVAILABLE),
        ({"httpConnectionFailed": {"httpStatusCode": 401}}, Kind.LOGGED_OUT),
        ({"httpConnectionFailed": {"httpStatusCode": 403}}, Kind.LOGGED_OUT),
        ({"httpConnectionFailed": {"httpStatusCode": None}}, Kind.UNAVAILABLE),
        ({"responseTooManyFailedAttempts": {"httpStatusCode": 429}}, Kind.RATE_LIMITED),
        ({"responseTooManyFailedAttempts": {"httpStatusCode": 502}}, Kind.UNAVAILABLE),
        ({"responseStreamDisconnected": {"httpStatusCode": None}}, Kind.GARBLED),
        ({"httpConnectionFailed": 7}, Kind.UNAVAILABLE),
        (None, Kind.UNAVAILABLE),
        (7, Kind.UNAVAILABLE),
        ({}, Kind.UNAVAILABLE),
    ],
)
def test_a_sign_has_one_kind(info: Any, kind: Kind) -> None:
    assert kind_of(info) is kind
    assert kind_of(info, "usage limit, context window, 401 Unauthorized") is kind  # wording changes nothing


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("stream disconnected before completion: idle timeout waiting for SSE", Kind.TIMED_OUT),
        ("stream disconnected before completion: Transport error: network error", Kind.GARBLED),
        ("stream disconnected before completion: stream closed before response.completed", Kind.GARBLED),
        ("stream disconnected before completion: An error occurred while processing", Kind.UNAVAILABLE),
        ('{"error": {"message": "wrong"}}', Kind.INVALID_REQUEST),
        ('{"detail": "wrong"}', Kind.INVALID_REQUEST),
        ("[1, 2]", Kind.UNAVAILABLE),
        ("the external auth refresh request failed", Kind.LOGGED_OUT),
        ("\ud800", Kind.UNAVAILABLE),
        ("", Kind.UNAVAILABLE),
    ],
)
def test_only_without_a_sign_the_beginning_of_the_sentence_counts(message: str, kind: Kind) -> None:
    assert kind_of("other", message) is kind


@pytest.mark.parametrize(("text", "wait_ms"), [("try again in 1.054s.", 1054), ("try again in 250ms", 250), ("", None)])
def test_a_rate_limit_says_how_long_to_wait_when_it_was_told(text: str, wait_ms: int | None) -> None:
    failure = failure_of(turn_error({"codexErrorInfo": "rateLimitExceeded", "message": text}), 5)
    assert (failure.retry_after_ms, failure.resets_at) == (wait_ms, None)


def test_a_plan_without_codex_is_no_quota_that_comes_back() -> None:
    told = "To use Codex with your ChatGPT plan, upgrade to Plus: https://chatgpt.com/explore/plus."
    failure = failure_of(turn_error({"codexErrorInfo": "usageLimitExceeded", "message": told}), 7)
    assert (failure.kind, failure.evidence, failure.resets_at) == (Kind.INELIGIBLE, "codex.usage_not_included", None)
    assert "plan" in str(failure)
    assert kind_of("usageLimitExceeded", f"You've hit your usage limit. {told}") is Kind.QUOTA_EXHAUSTED


def test_only_codexs_own_sentence_about_the_limit_of_tokens_makes_a_finish() -> None:
    told = "Incomplete response returned, reason: max_output_tokens"
    assert incomplete(turn_error({"codexErrorInfo": "other", "message": told})) == "length"
    assert incomplete(turn_error({"codexErrorInfo": "serverOverloaded", "message": told})) is None
    assert incomplete(turn_error({"codexErrorInfo": "other", "message": "reason: max_output_tokens"})) is None


def test_a_failure_never_quotes_what_the_service_said() -> None:
    failure = failure_of(
        turn_error({"codexErrorInfo": "other", "message": '{"error": "your prompt was: secret"}'}), None
    )
    assert "secret" not in str(failure) + failure.evidence


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": -32602, "data": {"input_error_code": "input_too_large"}}, Kind.INVALID_REQUEST),
        ({"code": -32602, "message": "missing field"}, Kind.INVALID_REQUEST),
        ({"code": -32600, "message": "unknown variant"}, Kind.UNAVAILABLE),
        (None, Kind.UNAVAILABLE),
    ],
)
def test_an_error_reply_has_a_kind(error: Any, kind: Kind) -> None:
    assert rpc_failure(error).kind is kind


def test_a_failure_that_many_wait_for_is_the_same_for_all_and_never_the_same_object() -> None:
    first = failure_of(turn_error({"codexErrorInfo": "usageLimitExceeded"}), 7)
    second = again(first)
    assert second is not first
    assert (second.kind, str(second), second.evidence, second.resets_at) == (first.kind, str(first), first.evidence, 7)
