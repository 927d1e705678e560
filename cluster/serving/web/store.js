// What the page knows of the open session, and the state of the memory that it shows.
//
// `session`: as the server describes it. `view`: {version, before, after, commit}, the memory before and after one
// commit ({entries: Map, scratchpad, next}); the newest while `following`. Both are announced on `changed`.

import { call, sessionPath } from "./api.js";

const LOG_PAGE = 100, ENTRY_PAGE = 200, KEPT_STATES = 40;
const NOTHING = { entries: new Map(), scratchpad: "", next: null };

export const changed = new EventTarget(); // events: session, view
export const store = { session: null, view: null, following: true, commits: new Map(), shown: ENTRY_PAGE };
const states = new Map(); // version -> memory; past states never change

const tell = (name) => changed.dispatchEvent(new Event(name));

export async function open(session) {
  states.clear();
  Object.assign(store, { session, view: null, following: true, commits: new Map(), shown: ENTRY_PAGE });
  tell("session");
  await show(session.version);
}

// What others did meanwhile.
export async function refresh() {
  const { id } = store.session;
  const session = await call(sessionPath(id));
  if (store.session.id !== id) return;
  store.session = session;
  tell("session");
  if (store.following) await show(session.version);
}

// Show the memory as it was at a version.
export async function show(version) {
  const { session } = store;
  store.following = version === session.version;
  store.wanted = version;
  const [after, before, commit] = await Promise.all([memoryAt(version), version ? memoryAt(version - 1) : NOTHING, commitAt(version)]);
  if (store.session.id !== session.id || store.wanted !== version) return; // the reader has moved on
  store.view = { version, before, after, commit };
  tell("view");
}

export async function showMore() {
  store.shown += 1000;
  states.clear();
  await show(store.view.version);
}

// A commit that this page caused: shown at once, without asking the server.
export async function advance(commit) {
  const { session, view } = store;
  if (commit.version <= session.version) return;
  const isNext = commit.version === session.version + 1;
  Object.assign(session, { version: commit.version, entries: commit.entries });
  store.commits.set(commit.version, commit);
  tell("session");
  if (!store.following) return;
  if (!isNext || !view || view.version !== commit.version - 1) {
    await show(commit.version);
    return;
  }
  store.wanted = commit.version;
  store.view = { version: commit.version, before: view.after, after: applied(view.after, commit), commit };
  tell("view");
}

function applied(memory, commit) {
  const entries = new Map(memory.entries);
  const source = { document: commit.document, chunk: commit.chunk };
  let { scratchpad } = memory;
  for (const { kind, entry_id, text, outcome } of commit.operations) {
    if (outcome !== "ok") continue;
    if (kind === "create" || kind === "update") entries.set(entry_id, { entry_id, content: text, source, version: commit.version });
    if (kind === "delete") entries.delete(entry_id);
    if (kind === "scratchpad") scratchpad = text;
  }
  return { ...memory, entries, scratchpad };
}

async function memoryAt(version) {
  if (!states.has(version)) states.set(version, await loadMemory(version));
  if (states.size > KEPT_STATES) states.delete(states.keys().next().value);
  return states.get(version);
}

async function loadMemory(version) {
  const { id } = store.session;
  const entries = new Map();
  let after = 0, page;
  do {
    page = await call(sessionPath(id, `/memory?version=${version}&after=${after}&limit=${ENTRY_PAGE}`));
    page.entries.forEach((entry) => entries.set(entry.entry_id, entry));
    after = page.next;
  } while (after !== null && entries.size < store.shown);
  return { entries, scratchpad: page.scratchpad, next: page.next };
}

export async function commitAt(version) {
  if (version === 0) return null;
  if (!store.commits.has(version)) {
    const { commits } = store;
    const page = await call(sessionPath(store.session.id, `/log?after=${pageStart(version)}&limit=${LOG_PAGE}`));
    page.items.forEach((commit) => commits.set(commit.version, commit));
  }
  return store.commits.get(version);
}

// The log is shown and fetched in pages; versions pageStart + 1 ... pageStart + LOG_PAGE.
export const pageStart = (version) => Math.floor(Math.max(0, version - 1) / LOG_PAGE) * LOG_PAGE;
export const pageEnd = (version) => pageStart(version) + LOG_PAGE;
