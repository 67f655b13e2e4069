// Ollama's client for Node.

import { Ollama } from "ollama";
import { API_KEY, BASE_URL, run } from "./cases.mjs";

const client = new Ollama({ host: BASE_URL, headers: { authorization: `Bearer ${API_KEY}` } });
const HELLO = [
  { role: "system", content: "Be short." },
  { role: "user", content: "Say hello" },
];

await run({
  async chat() {
    const answer = await client.chat({
      model: "say=hello+you",
      messages: HELLO,
      options: { temperature: 0, num_predict: 50 },
    });
    return {
      text: answer.message.content,
      finish: answer.done_reason,
      tokens: [answer.prompt_eval_count, answer.eval_count],
      model: answer.model,
      took: answer.total_duration > 0,
    };
  },
  async stream() {
    const parts = [];
    for await (const part of await client.chat({ model: "say=one+two+three", messages: HELLO, stream: true }))
      parts.push(part);
    return {
      text: parts.map((part) => part.message.content).join(""),
      finish: parts.at(-1).done_reason,
      tokens: [parts.at(-1).prompt_eval_count, parts.at(-1).eval_count],
      done: parts.map((part) => part.done).slice(-2),
    };
  },
  async generate() {
    const answer = await client.generate({ model: "say=hello+you", prompt: "Say hello" });
    let streamed = "";
    let done = false;
    for await (const part of await client.generate({ model: "say=one+two+three", prompt: "Count", stream: true })) {
      streamed += part.response;
      done = part.done;
    }
    return { text: answer.response, streamed, done };
  },
  async embeddings() {
    const found = await client.embed({ model: "vectors", input: ["one", "two"] });
    return { count: found.embeddings.length, length: found.embeddings[0].length > 0 };
  },
  async models() {
    const { models } = await client.list();
    const one = await client.show({ model: "say=hello+you" });
    return {
      listed: models.some((model) => model.model === "say=hello+you"),
      capabilities: one.capabilities.includes("completion"),
      running: Array.isArray((await client.ps()).models),
    };
  },
  async unknown_model() {
    try {
      await client.chat({ model: "no-such-model", messages: HELLO });
    } catch (error) {
      return { status: error.status_code, told: String(error).includes("no-such-model") };
    }
    throw new Error("it answered");
  },
});
