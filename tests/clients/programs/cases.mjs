// What every client program written for Node shares; see cases.py.

export const { BASE_URL, API_KEY } = process.env;
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const CITY = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};

export async function run(cases) {
  const only = process.env.ONLY?.split(",");
  const seen = {};
  for (const [name, perform] of Object.entries(cases)) {
    if (only && !only.includes(name)) continue;
    try {
      seen[name] = { saw: await perform() };
    } catch (error) {
      seen[name] = { failed: String(error?.stack ?? error) };
    }
  }
  console.log(JSON.stringify(seen));
}
