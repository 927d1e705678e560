// The log as a timeline: a slider over all versions, a button per commit, and what happened at the one that is shown.

import { call, sessionPath, shown } from "./api.js";
import { $, count, el, empty, item } from "./dom.js";
import { changed, pageEnd, pageStart, show, store } from "./store.js";

const SIGNS = { create: "+", update: "~", delete: "−", read: "?", scratchpad: "✎", answer: "=", invalid: "!" };
const slot = $("session-problems");
let waiting;

const goTo = (version) => shown(slot, () => show(Math.max(0, Math.min(store.session.version, version))));

// -- the slider ---------------------------------------------------------------------------------------------------

function renderSlider() {
  const { session, view, following } = store;
  const version = view ? view.version : session.version;
  Object.assign($("version"), { max: session.version, disabled: session.version === 0 });
  $("version").value = version;
  $("version").setAttribute("aria-valuetext", `version ${version} of ${session.version}`);
  $("place").value = `version ${version} of ${session.version}`;
  $("back").disabled = version === 0;
  $("on").disabled = $("now").disabled = following;
}

function place(commit) {
  if (commit.kind === "chunk") return `Document ${commit.document}, chunk ${commit.chunk + 1}`;
  return commit.kind === "question" ? "A question" : "An edit by hand";
}

const kindsOf = (commit) => [...new Set(commit.operations.map(({ kind, outcome }) => (outcome === "ok" ? kind : "invalid")))];

function cell(version) {
  const commit = store.commits.get(version);
  const kinds = commit ? kindsOf(commit) : [];
  const node = el("button", { type: "button", className: `cell ${commit?.kind || ""}`, title: commit ? place(commit) : "", onclick: () => goTo(version) },
    String(version), el("span", { className: "pips" }, ...kinds.map((kind) => el("i", { className: `pip ${kind}` }))));
  node.setAttribute("aria-label", `Version ${version}${commit ? `: ${place(commit)}, ${kinds.join(", ") || "no operation"}` : ""}`);
  return node;
}

// A page of the log; a cell is made once and stays.
function renderCells() {
  const { session, view, commits } = store, list = $("cells");
  const start = pageStart(view.version), end = Math.min(pageEnd(view.version), session.version);
  if (list.dataset.page !== `${session.id}/${start}`) list.replaceChildren();
  list.dataset.page = `${session.id}/${start}`;
  for (let i = 0; i < end - start; i++) {
    const old = list.children[i], isKnown = String(commits.has(start + 1 + i));
    if (old?.dataset.known === isKnown) continue;
    const node = cell(start + 1 + i);
    node.dataset.known = isKnown;
    if (old) old.replaceWith(node);
    else list.append(node);
  }
  [...list.children].forEach((node, i) => (start + 1 + i === view.version ? node.setAttribute("aria-current", "step") : node.removeAttribute("aria-current")));
  const current = list.children[view.version - start - 1];
  if (current) list.scrollTop = current.offsetTop - list.offsetTop - 40;
}

// -- what happened ------------------------------------------------------------------------------------------------

function operation({ kind, text, entry_id: id, outcome }) {
  const tags = [[`${SIGNS[kind] || ""} ${kind}`, "tag"]];
  if (id !== null) tags.push([`entry ${id}`]);
  if (outcome !== "ok") tags.push([outcome === "discarded" ? "discarded: the memory was full" : outcome]);
  return item(outcome === "ok" ? kind : "invalid", tags, text);
}

const list = (items) => el("ul", { className: "items" }, ...items);

function step(record, i, all) {
  const parts = [all.length > 1 ? el("h3", {}, `Turn ${i + 1}`) : ""];
  if (record.query !== null) {
    parts.push(el("h4", {}, `It was shown, for “${record.query}”`));
    const entries = record.retrieved.map((entry) => item("shown", [[`entry ${entry.entry_id}`]], entry.content));
    parts.push(entries.length ? list(entries) : empty("Nothing was found."));
  }
  parts.push(el("h4", {}, "It did"), record.operations.length ? list(record.operations.map(operation)) : empty("Nothing."));
  parts.push(el("details", {}, el("summary", {}, "What the model wrote"), el("div", { className: "text raw" }, record.output || "(nothing)")));
  return parts;
}

function about(commit) {
  const parts = [el("p", { className: "note" }, `${place(commit)} · ${new Date(commit.created_at).toLocaleString()}`)];
  if (commit.kind === "question") {
    parts.push(el("h4", {}, "It was asked"), el("div", { className: "text" }, commit.question || ""), el("h4", {}, "It answered"));
    parts.push(commit.answer === null ? empty("Nothing.") : el("div", { className: "text said" }, commit.answer));
  }
  if (commit.kind === "chunk") parts.push(el("h4", {}, "It read"), chunkText(commit));
  if (commit.kind === "edit") parts.push(el("h4", {}, "You did"), list(commit.operations.map(operation)));
  parts.push(...commit.steps.flatMap(step));
  if (commit.model) parts.push(el("p", { className: "note" }, `${commit.model} · ${count(commit.usage.total_tokens, "token")}`));
  return parts;
}

// Filled in when the reader stays: while chunks fly by, their texts are not asked for.
function chunkText({ document, chunk }) {
  const node = el("div", { className: "text" }, "…");
  const path = sessionPath(store.session.id, `/documents/${document}/chunks/${chunk}`);
  setTimeout(() => node.isConnected && shown(slot, async () => { node.textContent = (await call(path)).text; }), 250);
  return node;
}

function renderHappened({ version, commit }) {
  $("happened").replaceChildren(...(commit ? about(commit) : [empty(version
    ? "The log does not have this version." : "Nothing yet: give it a text to read, or add an entry by hand.")]));
}

$("version").addEventListener("input", () => {
  const version = Number($("version").value);
  $("place").value = `version ${version} of ${store.session.version}`;
  clearTimeout(waiting);
  waiting = setTimeout(() => goTo(version), 120);
});
$("back").addEventListener("click", () => goTo(store.view.version - 1));
$("on").addEventListener("click", () => goTo(store.view.version + 1));
$("now").addEventListener("click", () => goTo(store.session.version));
changed.addEventListener("session", renderSlider);
changed.addEventListener("view", () => {
  renderSlider();
  renderCells();
  renderHappened(store.view);
});
