// Documents: give the agent a text, watch it read chunk by chunk, stop it, let it go on.

import { call, sessionPath, shown, stream } from "./api.js";
import { $, announce, button, count, el } from "./dom.js";
import { advance, changed, refresh, store } from "./store.js";

const slot = $("read-problems");
const listening = new Set(); // "session/number" of documents whose events come in now
let documents = new Map(), owner = null, queue = Promise.resolve();

const nameOf = (document) => document.title || `document ${document.number}`;

// Read one text after another, in the order in which they were given.
function readLater(start) {
  const { id } = store.session; // a text belongs to the session it was given to, whatever is open when its turn comes
  queue = queue.then(() => shown(slot, () => listen(id, start)));
  return queue;
}

// Follow the events of a request that reads a document.
async function listen(session, request) {
  let key = null, document = null;
  try {
    for await (const { name, data } of request(session)) {
      if (name === "document") document = data;
      else if (data.document === document.number) document = { ...document, read: Math.max(document.read, data.chunk + 1) };
      key ??= `${session}/${document.number}`;
      listening.add(key);
      if (session !== store.session.id) continue; // it is read on; the page shows another session
      if (name === "chunk") await advance(data);
      show(document);
      announce(said(document, name === "chunk" ? data : null));
    }
  } finally {
    listening.delete(key);
    if (session === store.session.id) await loadDocuments();
  }
}

function said(document, commit) {
  if (!commit) return `${nameOf(document)}: ${document.state}, ${document.read} of ${count(document.chunks, "chunk")} read`;
  const kinds = commit.operations.filter(({ outcome }) => outcome === "ok").map(({ kind }) => kind);
  return `Chunk ${commit.chunk + 1} of ${document.chunks}: ${kinds.join(", ") || "no operation"}`;
}

const upload = (options, query = "") => (session) => stream(sessionPath(session, `/documents${query}`), { method: "POST", ...options });

const goOn = (document) => readLater(async function* (session) {
  const path = sessionPath(session, `/documents/${document.number}`);
  if (document.state !== "pending") await call(`${path}/resume`, { method: "POST" });
  yield* stream(`${path}/events`, { headers: { "Last-Event-ID": String(store.session.version) } });
});

const stop = (document) => shown(slot, async () => {
  show(await call(sessionPath(owner, `/documents/${document.number}/cancel`), { method: "POST" }));
});

// -- the list -----------------------------------------------------------------------------------------------------

async function loadDocuments() {
  const { id } = store.session;
  const list = await call(sessionPath(id, "/documents"));
  if (id !== store.session.id) return;
  documents = new Map(list.items.map((document) => [document.number, document]));
  $("documents").replaceChildren(...list.items.map(row));
  store.session.documents = list.items.length;
}

function show(document) {
  const old = $(`document-${document.number}`);
  documents.set(document.number, document);
  store.session.documents = documents.size;
  if (!old) $("documents").append(row(document));
  else update(old, document);
}

function row(document) {
  const node = el("li", { id: `document-${document.number}`, className: "document" },
    el("strong", {}), el("progress", { ariaLabel: `Read of ${nameOf(document)}` }), el("span", { className: "note" }), el("span", {}));
  update(node, document);
  return node;
}

// In place, so that the focus stays where it is.
function update(node, document) {
  const [name, progress, note, actions] = node.children;
  const isLive = listening.has(`${owner}/${document.number}`);
  name.textContent = nameOf(document);
  Object.assign(progress, { max: document.chunks, value: document.read });
  note.textContent = `${document.read} of ${count(document.chunks, "chunk")} · ${count(document.tokens, "token")} · ${stateOf(document, isLive)}`;
  const wanted = document.state === "done" ? "" : document.state === "pending" && isLive ? "Stop" : "Go on";
  if (actions.textContent === wanted) return;
  const act = wanted === "Stop" ? stop : goOn;
  actions.replaceChildren(wanted && button(wanted, () => act(documents.get(document.number))));
}

function stateOf(document, isLive) {
  if (document.state === "failed") return `failed: ${document.error || "unknown reason"}`;
  if (document.state !== "pending") return document.state;
  return isLive ? "reading" : document.background ? "being read in the background" : "interrupted";
}

// -- giving texts -------------------------------------------------------------------------------------------------

const title = (text) => text.trim().split("\n")[0].slice(0, 60);

$("reading").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value, role = $("role").value || null;
  $("text").value = "";
  readLater(upload({ json: { text, role, title: title(text) } })).then((went) => {
    if (!went && !$("text").value) $("text").value = text; // nothing that was typed is lost
  });
});

const give = (files) => [...files].forEach((file) =>
  readLater(upload({ body: file, headers: { "Content-Type": "text/plain" } }, `?title=${encodeURIComponent(file.name.slice(0, 200))}`)));

$("files").addEventListener("change", () => { give($("files").files); $("files").value = ""; });
const zone = $("read");
for (const name of ["dragover", "dragleave", "drop"]) {
  zone.addEventListener(name, (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return; // a dragged text goes into the field
    event.preventDefault();
    zone.classList.toggle("over", name === "dragover");
    if (name === "drop") give(event.dataTransfer.files);
  });
}

changed.addEventListener("session", () => {
  if (owner === store.session.id) return;
  owner = store.session.id;
  slot.replaceChildren();
  shown(slot, loadDocuments);
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && store.session) shown(slot, async () => { await refresh(); await loadDocuments(); });
});
