"use strict";
// The trajectory viewer. Texts are untrusted: they only ever become text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.getElementById("viewer");
const SIGNS = { create: "+", update: "~", delete: "−", read: "?", scratchpad: "✎", answer: "=", invalid: "!" };
const at = { iteration: 0, episode: 0, step: 0, filter: "all" };
const string = (index) => (index === null ? null : data.strings[index]);

function el(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

const isRight = (episode) => episode.answers.length > 0 && episode.answers.every((answer) => answer.right);
const matches = (episode) => at.filter === "all" || (at.filter === "right") === isRight(episode);
const iteration = () => data.iterations[at.iteration];
const episodes = () => iteration().episodes.filter(matches);
const episode = () => episodes()[at.episode];

// -- choosing ---------------------------------------------------------------------------------------------------

function choose(changes) {
  Object.assign(at, changes);
  at.episode = clamp(at.episode, episodes().length);
  renderEpisode();
}

function clamp(index, length) {
  return Math.max(0, Math.min(index, length - 1));
}

function picker(label, options, chosen, change) {
  const select = el("select", { onchange: () => change(select.value) });
  options.forEach(([value, text]) => select.append(el("option", { value, selected: String(value) === String(chosen) }, text)));
  return el("label", {}, label, select);
}

function iterationName(item) {
  if (item.name) return item.name;
  return item.held_out ? `held-out, at iteration ${item.step}` : `training, iteration ${item.step}`;
}

function episodeName(item) {
  const mark = item.failure ? "failed" : isRight(item) ? "✓" : "✗";
  return `${mark}  ${item.task} · episode ${item.index + 1} · reward ${item.reward === null ? "–" : item.reward.toFixed(2)}`;
}

function controls() {
  const list = episodes();
  return el("div", { className: "controls" },
    picker(data.choice || "Iteration", data.iterations.map((item, i) => [i, iterationName(item)]), at.iteration,
      (value) => choose({ iteration: Number(value), episode: 0, step: 0 })),
    picker("Show", [["all", "all episodes"], ["right", "right ones"], ["wrong", "wrong ones"]], at.filter,
      (value) => choose({ filter: value, episode: 0, step: 0 })),
    picker("Episode", list.length ? list.map((item, i) => [i, episodeName(item)]) : [[0, "none of this kind"]], at.episode,
      (value) => choose({ episode: Number(value), step: 0 })));
}

// -- the episode as a whole -------------------------------------------------------------------------------------

function linked(text) {
  return text.split(/(step \d+)/).map((part) => {
    const match = /^step (\d+)$/.exec(part);
    return match ? el("button", { type: "button", className: "link", onclick: () => goTo(match[1] - 1) }, part) : part;
  });
}

function outcome(answer, position) {
  const step = episode().steps[at.step];
  const current = step && step.phase === "question" && step.position === position;
  return el("li", { className: current ? "current" : "" },
    el("div", {}, el("span", { className: answer.right ? "right" : "wrong" }, answer.right ? "✓ " : "✗ "), answer.question),
    el("div", {}, answer.answer === null ? "not answered" : `answered “${answer.answer}”`,
      answer.right ? "" : `, expected “${answer.gold.join("” or “")}”`),
    el("div", { className: "why" }, el("b", {}, answer.right ? "" : `${answer.cause}: `), ...linked(answer.why)));
}

function outcomes() {
  const list = el("ul", { className: "outcomes" }, ...episode().answers.map(outcome));
  const failure = episode().failure;
  if (failure) list.prepend(el("li", {}, el("span", { className: "wrong" }, `Failed (${failure.boundary}): `), failure.message));
  return list;
}

function pips(step) {
  const kinds = [...new Set(step.changes.map((change) => change.kind))];
  return el("span", { className: "pips" }, ...kinds.map((kind) => el("i", { className: `pip ${kind}` })));
}

function stepper() {
  const steps = episode().steps;
  const cells = steps.map((step, i) =>
    el("button", { type: "button", className: `cell ${step.phase}`, onclick: () => goTo(i), title: place(step) }, String(i + 1), pips(step)));
  const slider = el("input", { type: "range", min: 0, max: steps.length - 1, oninput: () => goTo(Number(slider.value)) });
  slider.setAttribute("aria-label", "Step");
  return el("div", { className: "stepper" },
    el("div", { className: "row" },
      el("button", { type: "button", className: "back", onclick: () => goTo(at.step - 1), title: "Back (left arrow)" }, "←"),
      slider,
      el("button", { type: "button", className: "on", onclick: () => goTo(at.step + 1), title: "On (right arrow)" }, "→"),
      el("output", {})),
    el("div", { className: "cells" }, ...cells));
}

function showPosition() {
  const last = episode().steps.length - 1;
  root.querySelector(".back").disabled = at.step === 0;
  root.querySelector(".on").disabled = at.step === last;
  root.querySelector("input").value = at.step;
  root.querySelector("output").value = `step ${at.step + 1} of ${last + 1}`;
  const cells = root.querySelector(".cells");
  [...cells.children].forEach((cell, i) => (i === at.step ? cell.setAttribute("aria-current", "step") : cell.removeAttribute("aria-current")));
  cells.scrollTop = cells.children[at.step].offsetTop - cells.offsetTop - 40;
}

// -- one step ---------------------------------------------------------------------------------------------------

function place(step) {
  const same = episode().steps.filter((other) => other.phase === step.phase).map((other) => other.position);
  const total = step.phase === "question" ? episode().answers.length : Math.max(...same) + 1;
  return `${step.phase === "chunk" ? "Chunk" : "Question"} ${step.position + 1} of ${Math.max(total, step.position + 1)}`;
}

function marked(text) {
  const golds = episode().answers.flatMap((answer) => answer.gold).filter((gold) => gold.length > 1);
  if (!golds.length) return [text];
  const escaped = golds.map((gold) => gold.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const parts = text.split(new RegExp(`(?<![\\p{L}\\p{N}])(${escaped.join("|")})(?![\\p{L}\\p{N}])`, "iu"));
  return parts.map((part, i) => (i % 2 ? el("mark", {}, part) : part));
}

const textBlock = (text) => el("div", { className: "text" }, ...marked(text));
const empty = (text) => el("p", { className: "empty" }, text);

function item(kind, tags, ...body) {
  const head = el("div", { className: "head" }, ...tags.map(([text, style]) => el("span", { className: style || "" }, text)));
  return el("li", { className: `item ${kind}` }, head, ...body);
}

function saw(step) {
  const entries = step.retrieved.map(([id, text]) => item("shown", [[`entry ${id}`]], el("div", {}, ...marked(string(text)))));
  const query = string(step.query);
  return el("div", {}, el("h3", {}, "It saw"),
    el("h4", {}, place(step)), textBlock(string(step.text)),
    el("h4", {}, query === null ? "Retrieved" : `Retrieved for “${query}”`),
    entries.length ? el("ul", { className: "items" }, ...entries) : empty(query === null ? "Nothing: no query at the step before." : "Nothing found."),
    step.cut ? empty(`${step.cut} tokens of it did not fit into the window.`) : "",
    el("h4", {}, "Scratchpad"),
    string(step.scratchpad) ? textBlock(string(step.scratchpad)) : empty("Empty."));
}

function operation(change) {
  const text = string(change.text), old = string(change.old);
  const kind = change.outcome === "discarded" ? "invalid" : change.kind;
  const tags = [[`${SIGNS[change.kind] || ""} ${change.kind}`, "tag"]];
  if (change.id !== null) tags.push([`entry ${change.id}`]);
  if (change.outcome !== "ok") tags.push([change.outcome === "discarded" ? "discarded: the memory was full" : change.outcome]);
  const body = [];
  if (old) body.push(el("del", {}, old));
  if (old && text && change.kind !== "delete") body.push("\n→ ");
  if (change.kind !== "delete") body.push(text);
  return item(kind, tags, el("div", {}, ...body));
}

function did(step) {
  const meta = `tokens: ${step.prompt_tokens} in, ${step.output_tokens} out · policy version ${step.policy_version} · ended by ${step.finish_reason}`;
  return el("div", {}, el("h3", {}, "It did"),
    el("h4", {}, "Operations"),
    step.changes.length ? el("ul", { className: "items" }, ...step.changes.map(operation)) : empty("None."),
    el("h4", {}, "What the model wrote"),
    el("div", { className: "text raw" }, string(step.output) || "(nothing)"),
    el("p", { className: "note" }, meta));
}

function memoryAfter(steps) {
  const memory = new Map();
  for (const step of steps) for (const change of step.changes) {
    if (change.outcome !== "ok") continue;
    if (change.kind === "delete") memory.delete(change.id);
    if (change.kind === "create" || change.kind === "update") memory.set(change.id, string(change.text));
  }
  return memory;
}

function entry(id, before, after, shown) {
  const fate = after === undefined ? "delete" : before === undefined ? "create" : before !== after ? "update" : "";
  const names = { delete: "− deleted", create: "+ new", update: "~ changed" };
  const tags = [[`entry ${id}`]];
  if (fate) tags.push([names[fate], "tag"]);
  if (shown) tags.push(["shown at this step", "tag shown"]);
  const body = fate === "update" ? [el("del", {}, before), "\n→ ", ...marked(after)]
    : fate === "delete" ? [el("del", {}, before)] : marked(after);
  return item(fate || (shown ? "shown" : ""), tags, el("div", {}, ...body));
}

function memory(step) {
  const before = memoryAfter(episode().steps.slice(0, at.step)), after = memoryAfter(episode().steps.slice(0, at.step + 1));
  const shown = new Set(step.retrieved.map(([id]) => id));
  const ids = [...new Set([...before.keys(), ...after.keys()])].sort((a, b) => a - b);
  const entries = ids.map((id) => entry(id, before.get(id), after.get(id), shown.has(id)));
  const old = string(step.scratchpad), now = string(step.scratchpad_after);
  const pad = old === now ? now ? textBlock(now) : empty("Empty.")
    : el("ul", { className: "items" }, item("scratchpad", [["✎ rewritten", "tag"]], el("div", {}, old ? el("del", {}, old) : "", old ? "\n→ " : "", ...marked(now))));
  return el("div", {}, el("h3", {}, "Memory afterwards"),
    el("h4", {}, `${after.size} ${after.size === 1 ? "entry" : "entries"}`),
    entries.length ? el("ul", { className: "items entries" }, ...entries) : empty("No entry."),
    el("h4", {}, "Scratchpad"), pad);
}

// -- the page ---------------------------------------------------------------------------------------------------

function note() {
  const left = data.total - data.shown;
  return el("p", { className: "note" }, `${data.shown} sampled episodes${left ? ` (${left} more in the run directory)` : ""}. Arrow keys step through an episode, N and P change it. `,
    "Words of the gold answers are marked. The reasons follow those words through text, memory and retrieval, so they can miss a paraphrase.");
}

// The frame of an episode stays while its steps change, so that the slider can be dragged.
function renderEpisode() {
  const body = !episode() ? [empty("No episode of this kind in this iteration.")]
    : [outcomes(), ...(episode().steps.length ? [stepper(), el("div", { className: "columns" })] : [empty("The episode has no step.")])];
  root.replaceChildren(note(), controls(), ...body);
  if (episode() && episode().steps.length) goTo(at.step);
}

function goTo(step) {
  if (!episode() || !episode().steps.length) return;
  at.step = clamp(step, episode().steps.length);
  const shown = episode().steps[at.step];
  root.querySelector(".outcomes").replaceWith(outcomes());
  root.querySelector(".columns").replaceChildren(saw(shown), did(shown), memory(shown));
  showPosition();
  const list = root.querySelector(".entries"), changed = list && list.querySelector(".create, .update, .delete");
  if (changed) list.scrollTop = changed.offsetTop - 40;
}

const KEYS = {
  ArrowLeft: () => goTo(at.step - 1),
  ArrowRight: () => goTo(at.step + 1),
  Home: () => goTo(0),
  End: () => goTo(Infinity),
  n: () => choose({ episode: at.episode + 1, step: 0 }),
  p: () => choose({ episode: at.episode - 1, step: 0 }),
};

document.addEventListener("keydown", (event) => {
  const area = root.getBoundingClientRect();
  const visible = area.top < innerHeight && area.bottom > 0;
  const act = KEYS[event.key];
  if (!act || !visible || !data.iterations.length || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  event.preventDefault();
  act();
});

document.getElementById("theme").addEventListener("click", () => {
  const style = document.documentElement.style;
  const dark = style.colorScheme ? style.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  style.colorScheme = dark ? "light" : "dark";
});

// Links of the page to a step: #at-<iteration>-<episode>-<step>.
function follow() {
  const match = /^#at-(\d+)-(\d+)-(\d+)$/.exec(location.hash);
  if (!match) return;
  choose({ filter: "all", iteration: Number(match[1]), episode: Number(match[2]), step: Number(match[3]) - 1 });
  root.scrollIntoView();
}
addEventListener("hashchange", follow);

if (data.iterations.length) choose({ iteration: data.choice ? 0 : data.iterations.length - 1 });
else root.replaceChildren(empty("No trajectories were saved with this run."));
follow();
