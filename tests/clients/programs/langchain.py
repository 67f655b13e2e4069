"""LangChain's model for OpenAI."""

from typing import Any

from cases import API_KEY, BASE_URL, CITY, PIXEL, case, run
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import APIStatusError

HELLO = [("system", "Be short."), ("user", "Say hello")]


def model(name: str, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(model=name, base_url=f"{BASE_URL}/v1", api_key=API_KEY, max_retries=1, **more)  # type: ignore[arg-type]


@case
def chat() -> Any:
    answer = model("say=hello+you", temperature=0, max_tokens=50).invoke(HELLO)
    used = answer.usage_metadata
    return {
        "text": answer.content,
        "finish": answer.response_metadata["finish_reason"],
        "tokens": [used["input_tokens"], used["output_tokens"]],  # type: ignore[index]
    }


@case
def stream() -> Any:
    whole = None
    for chunk in model("say=one+two+three", stream_usage=True).stream(HELLO):
        whole = chunk if whole is None else whole + chunk
    used = whole.usage_metadata  # type: ignore[union-attr]
    return {
        "text": whole.content,  # type: ignore[union-attr]
        "finish": whole.response_metadata["finish_reason"],  # type: ignore[union-attr]
        "tokens": [used["input_tokens"], used["output_tokens"]],  # type: ignore[index]
    }


@case
def json_schema() -> Any:
    schema = {"title": "city", **CITY}
    return model("echo").with_structured_output(schema, method="json_schema").invoke('{"city": "Bern"}')["city"]


@case
def image() -> Any:
    content = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    return model("echo").invoke([("user", content)]).content


@case
def embeddings() -> Any:
    embedder = OpenAIEmbeddings(
        model="vectors",
        base_url=f"{BASE_URL}/v1",
        api_key=API_KEY,  # type: ignore[arg-type]
        check_embedding_ctx_length=False,
    )
    return len(embedder.embed_query("one")) > 0


@case
def unknown_model() -> Any:
    try:
        model("no-such-model").invoke(HELLO)
    except APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "code": error.code}
    raise AssertionError("it answered")


run()
