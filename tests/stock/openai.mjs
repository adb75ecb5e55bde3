// OpenAI's own clients, for Node and for Python, as they would talk to OpenAI.
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { check, expect } from "./checks.mjs";
import { cleanEnv, Gateway } from "./gateway.mjs";

const CONFIG = { gateway: { http: { endpoints: { chatCompletions: { enabled: true }, responses: { enabled: true } } } } };
const PYTHON = fileURLToPath(new URL("openai-client.py", import.meta.url));
const PYTHON_MS = 60_000;
const HEARD = /^This is crabtree\/offline.*it heard you \(turn (\d+)\): (.*)$/s;
const TOOL = { type: "function", function: { name: "get_weather", parameters: { type: "object", properties: {} } } };

export async function checkOpenAi(env) {
  const gateway = await Gateway.start(env, "openai", CONFIG);
  const baseURL = `http://127.0.0.1:${gateway.port}/v1`;
  const resolve = createRequire(pathToFileURL(`${env.stock}/oa/`)).resolve;
  const { default: OpenAI } = await import(pathToFileURL(resolve("openai")));
  const client = new OpenAI({ baseURL, apiKey: gateway.token });
  const one = (name, body) => check(`openai: ${name}`, body, () => gateway.log());
  try {
    await node(one, client, () => new OpenAI({ baseURL, apiKey: "wrong" }), OpenAI);
    await one("the Python client: models, completion, stream, responses, tools and a wrong key", () =>
      python(env, baseURL, gateway.token));
  } finally {
    await one("the gateway ends with code 0, and nothing panicked", async () => {
      const code = await gateway.stop();
      expect(code === 0 && gateway.panics() === 0, "exit code 0, no panic in the log", [code, gateway.panics()]);
    });
  }
}

const ask = (content) => ({ model: "openclaw", messages: [{ role: "user", content }] });

/** The error of what must be refused. */
async function refused(promise, kind, pattern) {
  const error = await promise.then(() => new Error("it was answered"), (error) => error);
  expect(error instanceof kind && pattern.test(error.message), `${kind.name} like ${pattern}`, `${error.name}: ${error.message}`);
}

async function node(one, client, stranger, kinds) {
  await one("agents are its models", async () => {
    const ids = [];
    for await (const model of await client.models.list()) ids.push(model.id);
    expect(ids.join() === "openclaw,openclaw/default,openclaw/main", "the agents", ids);
    expect((await client.models.retrieve("openclaw/default")).object === "model", "one of them");
  });
  await one("a completion, with what it used", async () => {
    const { choices, usage } = await client.chat.completions.create(ask("hello crab"));
    expect(HEARD.exec(choices[0].message.content)?.[2] === "hello crab", "an answer", choices);
    expect(choices[0].finish_reason === "stop" && usage.total_tokens > 10, "its end and usage", [choices, usage]);
  });
  await one("the same as a stream", async () => {
    const stream = await client.chat.completions.create({ ...ask("streamed"), stream: true, stream_options: { include_usage: true } });
    let [text, pieces, usage] = ["", 0, null];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      pieces += 1;
      usage = chunk.usage ?? usage;
    }
    expect(HEARD.exec(text)?.[2] === "streamed" && pieces > 5 && usage?.total_tokens > 0, "an answer in pieces", [text, pieces, usage]);
  });
  await one("who names a user goes on in the same conversation", async () => {
    const turn = async () => HEARD.exec((await client.chat.completions.create({ ...ask("again"), user: "ada" })).choices[0].message.content)[1];
    const turns = [await turn(), await turn()];
    expect(turns.join() === "1,2", "two turns of one conversation", turns);
  });
  await one("tools of the caller, an unknown agent and a wrong key are refused as OpenAI would", async () => {
    await refused(client.chat.completions.create({ ...ask("x"), tools: [TOOL] }), kinds.BadRequestError, /the agent runs its own tools/);
    await refused(client.chat.completions.create({ ...ask("x"), model: "gpt-4o" }), kinds.BadRequestError, /Invalid `model`/);
    const unknown = client.chat.completions.create(ask("x"), { headers: { "x-openclaw-model": "nope/none" } });
    await refused(unknown, kinds.NotFoundError, /Unknown model: nope\/none/);
    await refused(stranger().chat.completions.create(ask("x")), kinds.AuthenticationError, /Unauthorized/);
  });
  await one("a response, and the next one after it", async () => {
    const first = await client.responses.create({ model: "openclaw", input: "first" });
    const next = await client.responses.create({ model: "openclaw", input: "second", previous_response_id: first.id });
    const heard = [first, next].map((response) => HEARD.exec(response.output_text)?.slice(1).join());
    expect(heard.join(" ") === "1,first 2,second", "one conversation", heard);
  });
  await one("a response as a stream, as its own helper gathers it", async () => {
    const stream = client.responses.stream({ model: "openclaw", input: "streamed" });
    let pieces = 0;
    for await (const event of stream) pieces += event.type === "response.output_text.delta" ? 1 : 0;
    const whole = await stream.finalResponse();
    expect(HEARD.exec(whole.output_text)?.[2] === "streamed" && pieces > 5, "an answer in pieces", [whole.output_text, pieces]);
  });
}

/** Runs the checks in Python; they print what they found. */
async function python(env, baseURL, token) {
  const child = { env: cleanEnv(env.work, { PYTHONPATH: `${env.stock}/oapy`, OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: token }), timeout: PYTHON_MS };
  const { stdout } = await promisify(execFile)("python3", [PYTHON], child);
  const found = JSON.parse(stdout);
  expect(found.models.join() === "openclaw,openclaw/default,openclaw/main", "the agents", found.models);
  expect(HEARD.exec(found.completion)?.[2] === "from python", "a completion", found.completion);
  expect(HEARD.exec(found.stream.text)?.[2] === "streamed" && found.stream.pieces > 5, "a stream", found.stream);
  expect(HEARD.exec(found.response)?.[2] === "a response", "a response", found.response);
  expect(found.tools === "BadRequestError" && found.stranger === "AuthenticationError", "refusals", [found.tools, found.stranger]);
}
