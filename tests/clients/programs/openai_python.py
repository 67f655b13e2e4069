"""OpenAI's client for Python."""

import os
from typing import Any

import httpx2 as httpx
from cases import API_KEY, BASE_URL, CITY, PIXEL, case, run
from openai import APIStatusError, OpenAI
from pydantic import BaseModel

requests: list[str] = []
http = httpx.Client(event_hooks={"request": [lambda request: requests.append(str(request.url))]})
client = OpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY, max_retries=1, http_client=http)
HELLO: Any = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello"}]


def user(content: Any) -> Any:
    return [{"role": "user", "content": content}]


def refused(model: str, **more: Any) -> dict[str, Any]:
    """What a chat with `model` raises, and how many requests that took."""
    requests.clear()
    try:
        client.chat.completions.create(model=model, messages=more.pop("messages", HELLO), **more)
    except APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "has_message": bool(error.body and error.body["message"]),  # type: ignore[index]
            "has_id": bool(error.request_id),
            "requests": len(requests),
        }
    raise AssertionError("it answered")


@case
def chat() -> Any:
    answer = client.chat.completions.create(model="say=hello+you", messages=HELLO, temperature=0, max_tokens=50)
    choice = answer.choices[0]
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "tokens": [answer.usage.prompt_tokens, answer.usage.completion_tokens],  # type: ignore[union-attr]
        "model": answer.model,
    }


@case
def request_id() -> Any:
    answer = client.chat.completions.with_raw_response.create(model="say=hello+you", messages=HELLO)
    return answer.headers["x-request-id"] == answer.parse()._request_id != ""


@case
def stream() -> Any:
    chunks = list(
        client.chat.completions.create(
            model="say=one+two+three", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    return {
        "text": "".join(texts),
        "finish": [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1],
        "tokens": [chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens],
        "others_have_usage": any(chunk.usage for chunk in chunks[:-1]),
        "one_id": len({chunk.id for chunk in chunks}),
    }


@case
def stream_of_events() -> Any:
    with client.chat.completions.stream(model="say=one+two+three", messages=HELLO) as events:
        deltas = [event.delta for event in events if event.type == "content.delta"]
        return {"text": "".join(deltas), "final": events.get_final_completion().choices[0].message.content}


@case
def cut_by_length() -> Any:
    answer = client.chat.completions.create(model="say=one+two+three", messages=HELLO, max_completion_tokens=2)
    return answer.choices[0].finish_reason


@case
def json_schema() -> Any:
    class City(BaseModel):
        city: str

    answer = client.chat.completions.parse(model="echo", messages=user('{"city": "Bern"}'), response_format=City)
    return answer.choices[0].message.parsed.city  # type: ignore[union-attr]


@case
def json_schema_by_hand() -> Any:
    form: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    answer = client.chat.completions.create(model="echo", messages=user('{"city": "Bern"}'), response_format=form)
    return answer.choices[0].message.content


@case
def image() -> Any:
    content = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    return client.chat.completions.create(model="echo", messages=user(content)).choices[0].message.content


@case
def image_by_url() -> Any:
    content = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    return refused("echo", messages=user(content))


@case
def models() -> Any:
    names = [model.id for model in client.models.list()]
    return {"listed": "say=hello+you" in names, "one": client.models.retrieve("say=hello+you").id}


@case
def unknown_model() -> Any:
    return refused("no-such-model")


@case
def wrong_key() -> Any:
    stranger = OpenAI(base_url=f"{BASE_URL}/v1", api_key="sk-wrong", max_retries=1)
    try:
        stranger.chat.completions.create(model="echo", messages=HELLO)
    except APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "code": error.code}
    raise AssertionError("it answered")


@case
def bad_parameter() -> Any:
    return refused("echo", temperature=7)


@case
def quota_spent() -> Any:
    return refused("spent/fail=quota_exhausted,resets=3600")


@case
def limited_for_a_moment() -> Any:
    """The gateway asks to wait a second, and the client does."""
    requests.clear()
    answer = client.chat.completions.create(model="limited/fail=rate_limited,retry=1,times=2", messages=HELLO)
    return {"text": answer.choices[0].message.content, "requests": len(requests)}


@case
def lost_connection() -> Any:
    """The client gives up after a second, and asks again under the key that the call was given."""
    requests.clear()
    raw = client.chat.completions.with_raw_response.create(
        model="delay=1300,say=hello+you",
        messages=HELLO,
        timeout=1,
        extra_headers={"Idempotency-Key": f"lost-{os.urandom(8).hex()}", "Cache-Control": "no-cache"},
    )
    return {
        "text": raw.parse().choices[0].message.content,
        "requests": len(requests),
        "known": raw.headers["x-llmux-idempotency"] in ("joined", "replayed"),
        "has_a_key_unasked": "idempotency-key" in usual_headers(),
    }


def usual_headers() -> Any:
    answer = client.chat.completions.with_raw_response.create(model="say=hello+you", messages=HELLO)
    return answer.http_request.headers


@case
def error_in_a_stream() -> Any:
    text = ""
    try:
        for chunk in client.chat.completions.create(
            model="say=one+two+three,fail=crashed,after=2", messages=HELLO, stream=True
        ):
            text += chunk.choices[0].delta.content or ""
    except Exception as error:
        return {"text": text, "class": type(error).__name__, "told": "script fails" in str(error)}
    raise AssertionError("it ended well")


@case
def embeddings() -> Any:
    found = client.embeddings.create(model="vectors", input=["one", "two"])
    raw = client.embeddings.create(model="vectors", input="one", encoding_format="float")
    return {
        "count": len(found.data),
        "same": [round(value, 5) for value in found.data[0].embedding]
        == [round(value, 5) for value in raw.data[0].embedding],
        "length": len(raw.data[0].embedding) > 0,
    }


@case
def completions() -> Any:
    answer = client.completions.create(model="echo", prompt="say it again")
    streamed = client.completions.create(model="echo", prompt="say it again", stream=True)
    return {"text": answer.choices[0].text, "streamed": "".join(chunk.choices[0].text for chunk in streamed)}


@case
def responses() -> Any:
    answer = client.responses.create(model="say=hello+you", input="Say hello", instructions="Be short.")
    return {
        "text": answer.output_text,
        "status": answer.status,
        "tokens": [answer.usage.input_tokens, answer.usage.output_tokens],  # type: ignore[union-attr]
    }


@case
def responses_stream() -> Any:
    with client.responses.stream(model="say=one+two+three", input="Count") as events:
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        return {"text": "".join(deltas), "final": events.get_final_response().output_text}


@case
def responses_continued() -> Any:
    first = client.responses.create(model="echo", input="first words")
    second = client.responses.create(model="echo", input="second words", previous_response_id=first.id)
    return {"text": second.output_text, "tokens": second.usage.input_tokens}  # type: ignore[union-attr]


@case
def responses_image() -> Any:
    content: Any = [
        {"type": "input_text", "text": "what is this"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
    ]
    return client.responses.create(model="echo", input=[{"role": "user", "content": content}]).output_text


@case
def responses_parsed() -> Any:
    class City(BaseModel):
        city: str

    answer = client.responses.parse(model="echo", input='{"city": "Bern"}', text_format=City)
    return answer.output_parsed.city  # type: ignore[union-attr]


run()
