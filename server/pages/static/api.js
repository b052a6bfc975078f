// Asks the API, with the token of this browser tab if there is one. Problems come as errors that carry the server's own words.

import { byId, element } from "/static/dom.js";

const KEY = "tutti-token";

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || `HTTP ${status}`);
    this.status = status;
    this.code = body?.code || "";
    this.cure = body?.cure || "";
    this.problems = body?.problems || [];
  }
}

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...more };
}

async function ask(path, options) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (answer.status === 401) {
    await askForToken();
    return ask(path, options);
  }
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => null));
  return answer;
}

export async function get(path) {
  return (await ask(path, { headers: { Accept: "application/json" } })).json();
}

export async function send(method, path, body, more = {}) {
  const options = { method, headers: { Accept: "application/json", "Content-Type": "application/json", ...more } };
  return (await ask(path, body === undefined ? options : { ...options, body: JSON.stringify(body) })).json();
}

export async function* pages(path, limit = 500) {
  const joint = path.includes("?") ? "&" : "?";
  let cursor = null;
  do {
    const page = await get(`${path}${joint}limit=${limit}${cursor ? `&cursor=${cursor}` : ""}`);
    yield page.items;
    cursor = page.next;
  } while (cursor);
}

// Server-sent events by fetch, since EventSource cannot carry a token.
export async function* events(path, signal) {
  const answer = await ask(path, { headers: { Accept: "text/event-stream" }, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { event: "message", data: "" };
      for (const line of block.split("\n")) {
        const at = line.indexOf(":");
        if (at > 0) event[line.slice(0, at)] = line.slice(at + 1).trimStart();
      }
      if (event.data) yield event;
    }
  }
}

export function complain(target, error) {
  const lines = (error.problems || []).map((fault) => element("li", {}, `${fault.path}: ${fault.message} ${fault.cure}`));
  target.replaceChildren(element("div", { class: "notice bad", role: "alert" },
    element("strong", {}, error.message), error.cure ? element("p", {}, error.cure) : null,
    lines.length ? element("ul", {}, ...lines) : null));
}

let asking = null;

export function askForToken() {
  asking ??= new Promise((resolve) => {
    const input = element("input", { type: "password", autocomplete: "off", id: "token", required: true });
    const form = element("form", { method: "dialog" }, element("label", { for: "token" }, "Bearer token"), input,
      element("p", { class: "quiet" }, "Made by `tutti token create`. It is kept until this tab is closed."),
      element("div", { class: "row" }, element("button", {}, "Use it")));
    const dialog = element("dialog", { "aria-label": "Sign in" }, form);
    dialog.addEventListener("close", () => {
      if (input.value) sessionStorage.setItem(KEY, input.value.trim());
      dialog.remove();
      asking = null;
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

byId("sign-in")?.addEventListener("click", async () => {
  sessionStorage.removeItem(KEY);
  await askForToken();
  location.reload();
});
