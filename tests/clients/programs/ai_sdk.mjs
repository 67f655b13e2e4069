// The AI SDK with its provider for OpenAI-compatible servers.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embed, generateText, jsonSchema, Output, streamText } from "ai";
import { API_KEY, BASE_URL, CITY, PIXEL, run } from "./cases.mjs";

let requests = 0;
const provider = createOpenAICompatible({
  name: "llmux",
  baseURL: `${BASE_URL}/v1`,
  apiKey: API_KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
  fetch: (...given) => {
    requests += 1;
    return fetch(...given);
  },
});
const ask = (model, more = {}) =>
  generateText({ model: provider(model), system: "Be short.", prompt: "Say hello", maxRetries: 1, ...more });

async function refused(model, more = {}) {
  requests = 0;
  try {
    await ask(model, more);
  } catch (error) {
    const cause = APICallError.isInstance(error) ? error : error.lastError;
    return { status: cause.statusCode, code: cause.data.error.code, requests };
  }
  throw new Error("it answered");
}

await run({
  async chat() {
    const answer = await ask("say=hello+you", { temperature: 0, maxOutputTokens: 50 });
    return {
      text: answer.text,
      finish: answer.finishReason,
      tokens: [answer.usage.inputTokens, answer.usage.outputTokens],
    };
  },
  async stream() {
    const answer = streamText({ model: provider("say=one+two+three"), system: "Be short.", prompt: "Say hello" });
    let text = "";
    for await (const delta of answer.textStream) text += delta;
    const usage = await answer.usage;
    return { text, finish: await answer.finishReason, tokens: [usage.inputTokens, usage.outputTokens] };
  },
  async json_schema() {
    const answer = await ask("echo", {
      prompt: '{"city": "Bern"}',
      output: Output.object({ schema: jsonSchema(CITY) }),
    });
    return answer.output.city;
  },
  async image() {
    const content = [
      { type: "text", text: "what is this" },
      { type: "image", image: `data:image/png;base64,${PIXEL}` },
    ];
    return (await ask("echo", { prompt: undefined, messages: [{ role: "user", content }] })).text;
  },
  async embeddings() {
    const found = await embed({ model: provider.textEmbeddingModel("vectors"), value: "one" });
    return found.embedding.length > 0;
  },
  unknown_model: () => refused("no-such-model"),
  quota_spent: () => refused("spent/fail=quota_exhausted,resets=3600"),
  async error_in_a_stream() {
    const answer = streamText({
      model: provider("say=one+two+three,fail=crashed,after=2"),
      prompt: "Say hello",
      onError: () => {},
    });
    let text = "";
    let told = false;
    for await (const part of answer.fullStream) {
      if (part.type === "text-delta") text += part.text;
      if (part.type === "error") told = JSON.stringify(part.error?.message ?? part.error).includes("script fails");
    }
    return { text, told };
  },
});
