// The HTTP API: JSON, events, problems (RFC 9457), and the key.

import { el } from "./dom.js";
import { events } from "./sse.js";

const KEY = "atommem-key"; // sessionStorage: gone with the tab

export class Problem extends Error {
  constructor({ title, detail, status, errors }, retryAfter = null) {
    super(detail);
    Object.assign(this, { title, detail, status, errors: errors || [], retryAfter });
  }
}

export const useKey = (value) => sessionStorage.setItem(KEY, value);

export const sessionPath = (id, rest = "") => `v1/sessions/${encodeURIComponent(id)}${rest}`;

// `json` or `body` is sent; answers the parsed answer, null for 204. Throws Problem.
export async function call(path, options = {}) {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

// The same, for an answer of events: yields {name, data, id}. An `error` event is thrown as the Problem that it is.
export async function* stream(path, options = {}) {
  const response = await send(path, { ...options, headers: { ...options.headers, Accept: "text/event-stream" } });
  for await (const event of events(response.body)) {
    const parsed = { ...event, data: JSON.parse(event.data) };
    if (event.name === "error") throw new Problem(parsed.data);
    yield parsed;
  }
}

async function send(path, { method = "GET", json, body, headers = {}, signal } = {}) {
  const key = sessionStorage.getItem(KEY);
  const all = { ...(key && { Authorization: `Bearer ${key}` }), ...(json && { "Content-Type": "application/json" }), ...headers };
  let response;
  try {
    response = await fetch(path, { method, headers: all, body: json ? JSON.stringify(json) : body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No connection", detail: "The server does not answer. What was committed is safe; try again." });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const isProblem = (response.headers.get("content-type") || "").startsWith("application/problem+json");
  const body = isProblem ? await response.json() : { title: response.statusText || "Error", detail: `The server answered with status ${response.status}.` };
  return new Problem({ ...body, status: response.status }, response.headers.get("retry-after"));
}

// Run something; what goes wrong is shown in `slot`, which is emptied first. Answers whether it went well.
export async function shown(slot, work) {
  slot.replaceChildren();
  try {
    await work();
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    if (!(error instanceof Problem)) error.title = "The page or the connection broke off";
    slot.append(problemBox(error));
    if (error.status === 401) document.dispatchEvent(new Event("key-wanted"));
    return false;
  }
}

function problemBox(problem) {
  const box = el("div", { className: "problem", role: "alert" },
    el("strong", {}, problem.title), el("p", {}, problem.detail || problem.message),
    problem.retryAfter ? el("p", { className: "note" }, `Try again in ${problem.retryAfter} s.`) : "");
  const errors = (problem.errors || []).map(({ loc, msg }) => el("li", {}, `${loc.join(".")}: ${msg}`));
  if (errors.length > 1) box.append(el("ul", {}, ...errors));
  box.append(el("button", { type: "button", ariaLabel: "Close this message", onclick: () => box.remove() }, "×"));
  return box;
}
