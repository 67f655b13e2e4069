// OpenAI's client for Node.

import OpenAI from "openai";
import { API_KEY, BASE_URL, CITY, PIXEL, run } from "./cases.mjs";

let requests = 0;
const client = new OpenAI({
  baseURL: `${BASE_URL}/v1`,
  apiKey: API_KEY,
  maxRetries: 1,
  fetch: (...given) => {
    requests += 1;
    return fetch(...given);
  },
});
const HELLO = [
  { role: "system", content: "Be short." },
  { role: "user", content: "Say hello" },
];
const user = (content) => [{ role: "user", content }];

async function refused(model, more = {}) {
  requests = 0;
  try {
    await client.chat.completions.create({ model, messages: HELLO, ...more });
  } catch (error) {
    return {
      class: error.constructor.name,
      status: error.status,
      code: error.code,
      has_message: Boolean(error.error?.message),
      has_id: Boolean(error.requestID),
      requests,
    };
  }
  throw new Error("it answered");
}

await run({
  async chat() {
    const answer = await client.chat.completions.create({
      model: "say=hello+you",
      messages: HELLO,
      temperature: 0,
      max_tokens: 50,
    });
    const [choice] = answer.choices;
    return {
      text: choice.message.content,
      finish: choice.finish_reason,
      tokens: [answer.usage.prompt_tokens, answer.usage.completion_tokens],
      model: answer.model,
    };
  },
  async request_id() {
    const { data, response } = await client.chat.completions
      .create({ model: "say=hello+you", messages: HELLO })
      .withResponse();
    return Boolean(data._request_id) && response.headers.get("x-request-id") === data._request_id;
  },
  async stream() {
    const chunks = [];
    const stream = await client.chat.completions.create({
      model: "say=one+two+three",
      messages: HELLO,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) chunks.push(chunk);
    const last = chunks.at(-1);
    return {
      text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
      finish: chunks.filter((chunk) => chunk.choices.length).at(-1).choices[0].finish_reason,
      tokens: [last.usage.prompt_tokens, last.usage.completion_tokens],
      others_have_usage: chunks.slice(0, -1).some((chunk) => chunk.usage),
      one_id: new Set(chunks.map((chunk) => chunk.id)).size,
    };
  },
  async stream_of_events() {
    const stream = client.chat.completions.stream({ model: "say=one+two+three", messages: HELLO });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const final = await stream.finalChatCompletion();
    return { text, final: final.choices[0].message.content };
  },
  async cut_by_length() {
    const answer = await client.chat.completions.create({
      model: "say=one+two+three",
      messages: HELLO,
      max_completion_tokens: 2,
    });
    return answer.choices[0].finish_reason;
  },
  async json_schema_by_hand() {
    const answer = await client.chat.completions.create({
      model: "echo",
      messages: user('{"city": "Bern"}'),
      response_format: { type: "json_schema", json_schema: { name: "city", schema: CITY, strict: true } },
    });
    return answer.choices[0].message.content;
  },
  async image() {
    const content = [
      { type: "text", text: "what is this" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } },
    ];
    const answer = await client.chat.completions.create({ model: "echo", messages: user(content) });
    return answer.choices[0].message.content;
  },
  image_by_url: () =>
    refused("echo", {
      messages: user([{ type: "image_url", image_url: { url: "https://example.org/a.png" } }]),
    }),
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return {
      listed: names.includes("say=hello+you"),
      one: (await client.models.retrieve("say=hello+you")).id,
    };
  },
  unknown_model: () => refused("no-such-model"),
  async wrong_key() {
    const stranger = new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey: "sk-wrong", maxRetries: 1 });
    try {
      await stranger.chat.completions.create({ model: "echo", messages: HELLO });
    } catch (error) {
      return { class: error.constructor.name, status: error.status, code: error.code };
    }
    throw new Error("it answered");
  },
  bad_parameter: () => refused("echo", { temperature: 7 }),
  quota_spent: () => refused("spent/fail=quota_exhausted,resets=3600"),
  async limited_for_a_moment() {
    requests = 0;
    const answer = await client.chat.completions.create({
      model: "limited/fail=rate_limited,retry=1,times=2,delay=1",
      messages: HELLO,
    });
    return { text: answer.choices[0].message.content, requests };
  },
  async error_in_a_stream() {
    let text = "";
    try {
      const stream = await client.chat.completions.create({
        model: "say=one+two+three,fail=crashed,after=2",
        messages: HELLO,
        stream: true,
      });
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    } catch (error) {
      return { text, class: error.constructor.name, told: String(error).includes("script fails") };
    }
    throw new Error("it ended well");
  },
  async embeddings() {
    const found = await client.embeddings.create({ model: "vectors", input: ["one", "two"] });
    const raw = await client.embeddings.create({ model: "vectors", input: "one", encoding_format: "float" });
    const rounded = (numbers) => numbers.map((number) => number.toFixed(5)).join();
    return {
      count: found.data.length,
      same: rounded(found.data[0].embedding) === rounded(raw.data[0].embedding),
      length: raw.data[0].embedding.length > 0,
    };
  },
  async completions() {
    const answer = await client.completions.create({ model: "echo", prompt: "say it again" });
    let streamed = "";
    for await (const chunk of await client.completions.create({ model: "echo", prompt: "say it again", stream: true }))
      streamed += chunk.choices[0].text;
    return { text: answer.choices[0].text, streamed };
  },
  async responses() {
    const answer = await client.responses.create({
      model: "say=hello+you",
      input: "Say hello",
      instructions: "Be short.",
    });
    return {
      text: answer.output_text,
      status: answer.status,
      tokens: [answer.usage.input_tokens, answer.usage.output_tokens],
    };
  },
  async responses_stream() {
    const stream = client.responses.stream({ model: "say=one+two+three", input: "Count" });
    let text = "";
    for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
    return { text, final: (await stream.finalResponse()).output_text };
  },
  async responses_continued() {
    const first = await client.responses.create({ model: "echo", input: "first words" });
    const second = await client.responses.create({
      model: "echo",
      input: "second words",
      previous_response_id: first.id,
    });
    return { text: second.output_text, tokens: second.usage.input_tokens };
  },
  async responses_image() {
    const content = [
      { type: "input_text", text: "what is this" },
      { type: "input_image", image_url: `data:image/png;base64,${PIXEL}`, detail: "auto" },
    ];
    return (await client.responses.create({ model: "echo", input: [{ role: "user", content }] })).output_text;
  },
});
