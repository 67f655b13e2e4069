// Anthropic's client for Node.

import Anthropic from "@anthropic-ai/sdk";
import { API_KEY, BASE_URL, run } from "./cases.mjs";

const client = new Anthropic({ baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 1 });
const HELLO = { system: "Be short.", messages: [{ role: "user", content: "Say hello" }], max_tokens: 50 };

await run({
  async chat() {
    const answer = await client.messages.create({ model: "say=hello+you", temperature: 0, ...HELLO });
    return {
      text: answer.content[0].text,
      finish: answer.stop_reason,
      tokens: [answer.usage.input_tokens, answer.usage.output_tokens],
      model: answer.model,
      type: answer.type,
    };
  },
  async stream() {
    const stream = client.messages.stream({ model: "say=one+two+three", ...HELLO });
    let text = "";
    stream.on("text", (delta) => (text += delta));
    const final = await stream.finalMessage();
    return {
      text,
      final: final.content[0].text,
      finish: final.stop_reason,
      tokens: [final.usage.input_tokens, final.usage.output_tokens],
    };
  },
  async error_in_a_stream() {
    let text = "";
    try {
      const stream = client.messages.stream({ model: "say=one+two+three,fail=crashed,after=2", ...HELLO });
      stream.on("text", (delta) => (text += delta));
      await stream.finalMessage();
    } catch (error) {
      return { text, told: String(error).includes("script fails") };
    }
    throw new Error("it ended well");
  },
});
