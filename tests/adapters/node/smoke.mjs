// OpenAI's own Node SDK against the adapter. Prints what it saw as one line of JSON.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.ADAPTER_URL,
  apiKey: process.env.ADAPTER_KEY,
  maxRetries: 0,
});
const messages = [{ role: "user", content: "good morning" }];
const seen = {};

const models = [];
for await (const model of client.models.list()) models.push(model.id);
seen.models = models;
seen.retrieved = (await client.models.retrieve("agent:shop/bot")).id;

for (const model of ["mine/echo", "agent:shop/bot"]) {
  const { data, response } = await client.chat.completions
    .create({ model, messages })
    .withResponse();
  const stream = await client.chat.completions.create({
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let tokens = 0;
  let reason = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    tokens = chunk.usage?.total_tokens ?? tokens;
  }
  const runner = client.chat.completions.stream({ model, messages });
  const final = await runner.finalChatCompletion();
  seen[model] = {
    whole: data.choices[0].message.content,
    streamed: text,
    runner: final.choices[0].message.content,
    reason,
    tokens,
    request: Boolean(data._request_id) && data._request_id === response.headers.get("x-request-id"),
    chat: response.headers.get("x-chat-id"),
  };
}

const tools = [{ type: "function", function: { name: "look", parameters: { type: "object" } } }];
const called = await client.chat.completions.create({ model: "mine/tool-echo", messages, tools });
seen.tool = called.choices[0].message.tool_calls[0].function.name;

const failures = {
  model: { model: "agent:shop/nobody", messages },
  body: { model: "agent:shop/bot", messages, temperature: 9 },
  tools: { model: "agent:shop/bot", messages, tools },
};
seen.errors = {};
for (const [name, body] of Object.entries(failures)) {
  try {
    await client.chat.completions.create(body);
  } catch (error) {
    seen.errors[name] = [error.constructor.name, error.status, error.code, error.param];
  }
}
try {
  await new OpenAI({ baseURL: process.env.ADAPTER_URL, apiKey: "sk-no", maxRetries: 0 }).models.list();
} catch (error) {
  seen.errors.key = [error.constructor.name, error.status, error.code];
}
try {
  const stream = await client.chat.completions.create({ model: "mine/cut", messages, stream: true });
  for await (const _ of stream);
} catch (error) {
  seen.errors.stream = [error.constructor.name, error.error?.code];
}

const aborted = await client.chat.completions.create({ model: "mine/held", messages, stream: true });
for await (const chunk of aborted) {
  if (chunk.choices[0]?.delta.content) break; // closes the connection
}

console.log(JSON.stringify(seen));
