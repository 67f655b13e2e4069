"""Ollama's client for Python."""

from typing import Any

import ollama
from cases import API_KEY, BASE_URL, CITY, PIXEL, case, run

client = ollama.Client(host=BASE_URL, headers={"authorization": f"Bearer {API_KEY}"})
HELLO = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello"}]


@case
def chat() -> Any:
    answer = client.chat(model="say=hello+you", messages=HELLO, options={"temperature": 0, "num_predict": 50})
    return {
        "text": answer.message.content,
        "finish": answer.done_reason,
        "tokens": [answer.prompt_eval_count, answer.eval_count],
        "model": answer.model,
        "took": (answer.total_duration or 0) > 0,
    }


@case
def stream() -> Any:
    parts = list(client.chat(model="say=one+two+three", messages=HELLO, stream=True))
    return {
        "text": "".join(part.message.content or "" for part in parts),
        "finish": parts[-1].done_reason,
        "tokens": [parts[-1].prompt_eval_count, parts[-1].eval_count],
        "done": [part.done for part in parts][-2:],
    }


@case
def generate() -> Any:
    answer = client.generate(model="say=hello+you", prompt="Say hello")
    parts = list(client.generate(model="say=one+two+three", prompt="Count", stream=True))
    return {"text": answer.response, "streamed": "".join(part.response for part in parts), "done": parts[-1].done}


@case
def json_schema() -> Any:
    return client.chat(
        model="echo", messages=[{"role": "user", "content": '{"city": "Bern"}'}], format=CITY
    ).message.content


@case
def image() -> Any:
    message = {"role": "user", "content": "what is this", "images": [PIXEL]}
    return client.chat(model="echo", messages=[message]).message.content


@case
def thinking() -> Any:
    answer = client.chat(model="reason=let+me+see,say=hello+you", messages=HELLO, think=True)
    return {"thinking": answer.message.thinking, "text": answer.message.content}


@case
def embeddings() -> Any:
    found = client.embed(model="vectors", input=["one", "two"])
    return {"count": len(found.embeddings), "length": len(found.embeddings[0]) > 0}


@case
def models() -> Any:
    listed = client.list().models
    one = client.show("say=hello+you")
    return {
        "listed": "say=hello+you" in [model.model for model in listed],
        "capabilities": "completion" in (one.capabilities or []),
        "running": isinstance(client.ps().models, (list, tuple)),
    }


@case
def unknown_model() -> Any:
    try:
        client.chat(model="no-such-model", messages=HELLO)
    except ollama.ResponseError as error:
        return {"status": error.status_code, "told": "no-such-model" in error.error}
    raise AssertionError("it answered")


@case
def error_in_a_stream() -> Any:
    text = ""
    try:
        for part in client.chat(model="say=one+two+three,fail=crashed,after=2", messages=HELLO, stream=True):
            text += part.message.content or ""
    except ollama.ResponseError as error:
        return {"text": text, "told": "script fails" in error.error}
    raise AssertionError("it ended well")


run()
