// The memory: what a commit made, changed and removed in it, what the agent was shown, and edits by hand.

import { call, sessionPath, shown } from "./api.js";
import { $, button, count, el, empty, item, sourceText } from "./dom.js";
import { advance, changed, refresh, show, showMore, store } from "./store.js";

const slot = $("memory-problems");
const NAMES = { create: "+ new", update: "~ changed", delete: "− deleted" };
const PAD = "scratchpad";
const nodes = new Map(); // entry id -> {key, node}: an entry that looks as before keeps its node, and the focus in it
let found = null, editing = null; // a search's result; the entry (its id) or scratchpad (PAD) that is being rewritten

// -- showing ------------------------------------------------------------------------------------------------------

function render() {
  const { view } = store;
  const rows = found ? found.entries.map((entry) => ({ entry, score: entry.score })) : differences(view);
  const kept = rows.map(({ entry, ...rest }) => nodeOf(entry, { ...rest, isNow: store.following }));
  for (const [id] of nodes) if (id !== PAD && !rows.some(({ entry }) => entry.entry_id === id)) nodes.delete(id);
  place($("entries"), kept);
  $("count").textContent = found ? `${count(kept.length, "entry", "entries")} found, the most similar first` : countText(view);
  $("more").hidden = Boolean(found) || view.after.next === null;
  $("adding").hidden = !store.following;
  renderPast();
  renderScratchpad(view);
  if (!found) reveal($("entries").querySelector(".create, .update, .delete, .shown"));
}

// Move nodes only where they are not in place already.
function place(list, wanted) {
  const stay = new Set(wanted);
  [...list.children].forEach((child) => stay.has(child) || child.remove());
  wanted.forEach((node, i) => list.children[i] === node || list.insertBefore(node, list.children[i] || null));
}

function differences({ before, after, commit }) {
  const used = new Set((commit?.steps || []).flatMap((step) => step.retrieved.map((entry) => entry.entry_id)));
  const ids = [...new Set([...before.entries.keys(), ...after.entries.keys()])].sort((a, b) => a - b);
  return ids.map((id) => {
    const old = before.entries.get(id), now = after.entries.get(id);
    const fate = !now ? "delete" : !old ? "create" : old.version !== now.version ? "update" : "";
    const mark = used.has(id) ? (commit.kind === "question" ? "used for the answer" : "shown to the agent") : "";
    return { entry: now || old, old: fate === "update" ? old.content : null, fate, mark };
  });
}

function nodeOf(entry, look) {
  const isEditing = editing === entry.entry_id && look.isNow && look.fate !== "delete";
  const key = JSON.stringify([entry, look, isEditing]);
  const kept = nodes.get(entry.entry_id);
  if (kept?.key === key) return kept.node;
  const node = draw(entry, look, isEditing);
  nodes.set(entry.entry_id, { key, node });
  return node;
}

function draw(entry, { old, fate = "", mark = "", score, isNow }, isEditing) {
  const tags = [[`entry ${entry.entry_id}`]];
  if (fate) tags.push([NAMES[fate], "tag"]);
  if (mark) tags.push([mark, "tag shown"]);
  if (score !== undefined) tags.push([`similarity ${score.toFixed(2)}`]);
  tags.push(el("button", { type: "button", className: "link", title: "Show when it was written",
    onclick: () => shown(slot, () => { found = null; return show(entry.version); }) }, sourceText(entry.source)));
  const style = `${fate || (mark ? "shown" : "")} ${mark ? "marked" : ""}`;
  if (isEditing) return item(style, tags, editor(entry.entry_id, `Content of entry ${entry.entry_id}`, entry.content, entryPath(entry.entry_id)));
  const body = fate === "delete" ? [el("del", {}, entry.content)] : [old === null || old === undefined ? "" : el("del", {}, old), el("div", {}, entry.content)];
  return item(style, tags, ...body, isNow && fate !== "delete" ? actions(entry) : "");
}

const countText = ({ after }) => (after.entries.size ? `${count(after.entries.size, "entry", "entries")}${after.next === null ? "" : " and more"}` : "No entry.");

function renderPast() {
  $("past").hidden = store.following;
  $("past").replaceChildren(`As it was at version ${store.view.version}. `, button("Back to now", () => shown(slot, () => show(store.session.version))));
}

function renderScratchpad({ before, after }) {
  const isNew = before.scratchpad !== after.scratchpad;
  const text = after.scratchpad ? el("div", { className: "text" }, after.scratchpad) : empty("Empty.");
  const key = JSON.stringify([before.scratchpad, after.scratchpad, store.following, editing === PAD]);
  if (nodes.get(PAD)?.key === key) return; // looks as before: what is being typed into it stays
  if (editing === PAD && store.following) {
    $("scratchpad").replaceChildren(editor(PAD, "Scratchpad", after.scratchpad, padPath()));
  } else {
    $("scratchpad").replaceChildren(isNew
      ? el("ul", { className: "items" }, item("scratchpad", [["✎ rewritten", "tag"]], before.scratchpad && el("del", {}, before.scratchpad), text))
      : text);
    if (store.following) $("scratchpad").append(el("div", { className: "actions" }, named(button("Edit", () => startEditing(PAD), "edit"), "Edit scratchpad")));
  }
  nodes.set(PAD, { key, node: $("scratchpad") });
}

function reveal(node) {
  if (!node) return;
  const list = $("entries");
  if (node.offsetTop < list.scrollTop || node.offsetTop > list.scrollTop + list.clientHeight - 40) list.scrollTop = node.offsetTop - 40;
}

// -- editing ------------------------------------------------------------------------------------------------------

const padPath = () => sessionPath(store.session.id, "/memory/scratchpad");
const entryPath = (id) => sessionPath(store.session.id, `/memory/entries${id === undefined ? "" : `/${id}`}`);

// The server refuses an edit of a state that is no longer there; what is there now is then shown.
async function edit(path, options) {
  const headers = { "If-Match": `"${store.session.version}"` };
  const went = await shown(slot, async () => advance(await call(path, { ...options, headers })));
  if (!went) await shown(slot.appendChild(el("div")), refresh);
  return went;
}

const startEditing = (id) => { editing = id; render(); nodes.get(id)?.node.querySelector("textarea")?.focus(); };
const stopEditing = (id) => { editing = null; render(); nodes.get(id)?.node.querySelector("button.edit")?.focus(); };

const named = (node, ariaLabel) => Object.assign(node, { ariaLabel });

function actions({ entry_id: id }) {
  const remove = async () => {
    if (await edit(entryPath(id), { method: "DELETE" })) { forgetFound(id); $("memory").focus(); }
  };
  const edits = named(button("Edit", () => startEditing(id), "edit"), `Edit entry ${id}`);
  return el("div", { className: "actions" }, edits, named(button("Delete", remove), `Delete entry ${id}`));
}

function forgetFound(id) {
  if (found) found = { entries: found.entries.filter((entry) => entry.entry_id !== id) };
  render();
}

function editor(id, ariaLabel, content, path) {
  const field = el("textarea", { value: content, rows: 3, ariaLabel, required: id !== PAD });
  const form = el("form", {}, field, el("div", { className: "row end" }, button("Cancel", () => stopEditing(id)), el("button", { className: "primary" }, "Save")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!(await edit(path, { method: "PUT", json: { content: field.value } }))) return;
    found = null;
    stopEditing(id);
  });
  form.addEventListener("keydown", (event) => { if (event.key === "Escape") stopEditing(id); });
  return form;
}

$("adding").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await edit(entryPath(), { method: "POST", json: { content: $("content").value } })) $("content").value = "";
});

// -- searching ----------------------------------------------------------------------------------------------------

$("searching").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = $("search").value.trim();
  shown(slot, async () => {
    found = query ? await call(sessionPath(store.session.id, `/memory/search?k=20&q=${encodeURIComponent(query)}`)) : null;
    if (query && !store.following) await show(store.session.version);
    else render();
  });
});
$("search").addEventListener("input", () => { if (found && !$("search").value) { found = null; render(); } });
$("more").addEventListener("click", () => shown(slot, showMore));

let owner = null;
changed.addEventListener("session", () => {
  if (owner === store.session.id) return;
  [owner, found, editing] = [store.session.id, null, null];
  nodes.clear();
  slot.replaceChildren();
});
changed.addEventListener("view", render);
