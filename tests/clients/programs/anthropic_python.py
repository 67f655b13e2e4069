"""Anthropic's client for Python."""

from typing import Any

from anthropic import Anthropic, APIStatusError
from cases import API_KEY, BASE_URL, PIXEL, case, run

client = Anthropic(base_url=BASE_URL, api_key=API_KEY, max_retries=1)
HELLO: Any = {"system": "Be short.", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 50}


def refused(model: str, **more: Any) -> dict[str, Any]:
    try:
        client.messages.create(model=model, **{**HELLO, **more})
    except APIStatusError as error:
        told: Any = error.body
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "type": told["error"]["type"],
            "has_message": bool(told["error"]["message"]),
            "has_id": bool(error.request_id),
        }
    raise AssertionError("it answered")


@case
def chat() -> Any:
    answer = client.messages.create(model="say=hello+you", extra_body={"temperature": 0}, **HELLO)
    return {
        "text": answer.content[0].text,  # type: ignore[union-attr]
        "finish": answer.stop_reason,
        "tokens": [answer.usage.input_tokens, answer.usage.output_tokens],
        "model": answer.model,
        "type": answer.type,
    }


@case
def request_id() -> Any:
    return bool(client.messages.create(model="say=hello+you", **HELLO)._request_id)


@case
def stream() -> Any:
    with client.messages.stream(model="say=one+two+three", **HELLO) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    return {
        "text": text,
        "final": final.content[0].text,  # type: ignore[union-attr]
        "finish": final.stop_reason,
        "tokens": [final.usage.input_tokens, final.usage.output_tokens],
    }


@case
def raw_stream() -> Any:
    events = client.messages.create(model="say=one+two+three", stream=True, **HELLO)
    kinds = [event.type for event in events]
    return [kind for number, kind in enumerate(kinds) if number == 0 or kinds[number - 1] != kind]


@case
def cut_by_length() -> Any:
    return client.messages.create(model="say=one+two+three", **{**HELLO, "max_tokens": 2}).stop_reason


@case
def image() -> Any:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content: Any = [{"type": "text", "text": "what is this"}, {"type": "image", "source": source}]
    messages: Any = [{"role": "user", "content": content}]
    return client.messages.create(model="echo", messages=messages, max_tokens=50).content[0].text  # type: ignore[union-attr]


@case
def counted() -> Any:
    counted = client.messages.count_tokens(model="echo", messages=[{"role": "user", "content": "Say hello"}])
    return counted.input_tokens > 0


@case
def models() -> Any:
    names = [model.id for model in client.models.list()]
    return {"listed": "say=hello+you" in names, "one": client.models.retrieve("say=hello+you").id}


@case
def unknown_model() -> Any:
    return refused("no-such-model")


@case
def quota_spent() -> Any:
    return refused("spent/fail=quota_exhausted,resets=3600")


@case
def wrong_key() -> Any:
    stranger = Anthropic(base_url=BASE_URL, api_key="sk-wrong", max_retries=1)
    try:
        stranger.messages.create(model="echo", **HELLO)
    except APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code}
    raise AssertionError("it answered")


@case
def error_in_a_stream() -> Any:
    text = ""
    try:
        with client.messages.stream(model="say=one+two+three,fail=crashed,after=2", **HELLO) as events:
            for delta in events.text_stream:
                text += delta
    except Exception as error:
        return {"text": text, "told": "script fails" in str(error)}
    raise AssertionError("it ended well")


run()
