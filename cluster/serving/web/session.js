// The session bar: pick, make, copy, delete. The address names the open session, so a reload finds it.

import { call, sessionPath, shown } from "./api.js";
import { $, count, el } from "./dom.js";
import { changed, open, store } from "./store.js";

const OPERATIONS = ["create", "read", "update", "delete", "scratchpad"];
const slot = $("session-problems");
const known = new Map(); // id -> session, newest first
let older = null;

export async function start() {
  known.clear();
  await loadPage("");
  const named = new URLSearchParams(location.hash.slice(1)).get("session");
  if (named && !known.has(named)) await shown(slot, async () => known.set(named, await call(sessionPath(named))));
  renderList();
  const first = known.get(named) || known.values().next().value;
  if (first) await choose(first.id);
  else $("options").textContent = "No session yet: make one, and give it something to read.";
}

async function loadPage(after) {
  const page = await call(`v1/sessions?limit=100${after && `&after=${after}`}`);
  page.items.forEach((session) => known.set(session.id, session));
  older = page.next;
}

const label = (session) => `${session.name || session.id.slice(0, 8)} · ${count(session.entries, "entry", "entries")}`;

function renderList() {
  const options = [...known.values()].map((session) =>
    el("option", { value: session.id, selected: session.id === store.session?.id }, label(session)));
  $("session").replaceChildren(...(options.length ? options : [el("option", { value: "" }, "none yet")]));
  $("older").hidden = older === null;
  for (const id of ["session", "fork", "delete"]) $(id).disabled = known.size === 0;
}

async function choose(id) {
  await shown(slot, async () => {
    const session = await call(sessionPath(id));
    known.set(id, session);
    history.replaceState(null, "", `#session=${id}`);
    $("workplace").hidden = false;
    await open(session);
  });
  renderList();
}

function add(session) {
  const rest = [...known.values()];
  known.clear();
  [session, ...rest].forEach((item) => known.set(item.id, item));
}

function describe({ options, documents, version, forked_from: origin }) {
  const parts = [`${count(documents, "document")}, version ${version}`];
  if (options.top_k !== null) parts.push(`K ${options.top_k}`);
  if (options.capacity !== null) parts.push(`at most ${count(options.capacity, "entry", "entries")}`);
  if (options.operations !== null) parts.push(`only ${options.operations.join(", ") || "no operation"}`);
  if (options.focus.length) parts.push(`in view: ${options.focus.map((text) => `“${text}”`).join(" ")}`);
  if (origin) parts.push(`a copy of ${known.get(origin)?.name || origin.slice(0, 8)}`);
  return parts.join(" · ");
}

changed.addEventListener("session", () => {
  known.set(store.session.id, store.session);
  $("options").textContent = describe(store.session);
  const option = [...$("session").options].find(({ value }) => value === store.session.id);
  if (option) option.textContent = label(store.session);
});

$("session").addEventListener("change", () => choose($("session").value));
$("older").addEventListener("click", () => shown(slot, async () => { await loadPage(older); renderList(); }));
$("fork").addEventListener("click", () => shown(slot, async () => {
  const { id, name } = store.session;
  const fork = await call(sessionPath(id, "/fork"), { method: "POST", json: { name: `${name || id.slice(0, 8)}, copy`.slice(0, 200) } });
  add(fork);
  await choose(fork.id);
}));

// -- making one ---------------------------------------------------------------------------------------------------

const number = (id) => ($(id).value === "" ? null : Number($(id).value));

function chosenOptions() {
  const operations = OPERATIONS.filter((name) => $(`may-${name}`).checked);
  const focus = $("focus").value.split("\n").map((line) => line.trim()).filter(Boolean);
  return {
    top_k: number("top-k"), capacity: number("capacity"),
    operations: operations.length === OPERATIONS.length ? null : operations, focus,
  };
}

$("operations").append(...OPERATIONS.map((name) =>
  el("label", {}, el("input", { type: "checkbox", id: `may-${name}`, checked: true }), name)));
$("new").addEventListener("click", () => $("creating").showModal());
$("create-cancel").addEventListener("click", () => $("creating").close());
$("creating").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  await shown($("create-problems"), async () => {
    const session = await call("v1/sessions", { method: "POST", json: { name: $("name").value.trim(), options: chosenOptions() } });
    add(session);
    await choose(session.id); // before the dialog closes: what is typed next belongs to the new session
    $("creating").close();
    event.target.reset();
    $("text").focus();
  });
});

// -- deleting it --------------------------------------------------------------------------------------------------

$("delete").addEventListener("click", () => {
  const { name, id, documents, entries } = store.session;
  $("deleting-what").textContent =
    `“${name || id}”: ${count(documents, "document")}, ${count(entries, "entry", "entries")}, and its log are removed for good.`;
  $("deleting").returnValue = "";
  $("deleting").showModal();
});
$("deleting").addEventListener("close", () => {
  if ($("deleting").returnValue !== "delete") return;
  shown(slot, async () => {
    const { id } = store.session;
    await call(sessionPath(id), { method: "DELETE" });
    known.delete(id);
    renderList();
    const next = known.keys().next().value;
    if (next) await choose(next);
    else location.replace(location.pathname);
  });
});
