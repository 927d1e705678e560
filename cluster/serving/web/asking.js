// Questions: what the agent looks up while it thinks, its answer, and what the answer rests on.

import { sessionPath, shown, stream } from "./api.js";
import { $, count, el, empty, item, sourceText } from "./dom.js";
import { advance, changed, commitAt, show, store } from "./store.js";

let owner = null;

async function ask(question) {
  const { id } = store.session;
  const card = el("article", { className: "answer-card" }, el("h3", {}, question), empty("Thinking …"));
  $("answers").prepend(card);
  const went = await shown($("ask-problems"), async () => {
    for await (const { name, data } of stream(sessionPath(id, "/questions"), { method: "POST", json: { question, stream: true } })) {
      if (name === "reading") card.append(lookUp(data));
      else card.replaceChildren(...answered(data));
      if (name === "answer" && id === store.session.id) await advance(await commitAt(data.version));
    }
  });
  if (!went) card.remove();
  return went;
}

const lookUp = (reading) => el("p", { className: "note" }, `Looks up “${reading.query}”: ${count(reading.entries.length, "entry", "entries")}.`);

function answered(answer) {
  const rests = answer.entries.map((entry) => used(entry));
  return [
    el("h3", {}, answer.question),
    answer.answer === null ? empty("It gave no answer.") : el("p", { className: "said" }, answer.answer),
    el("h4", {}, answer.entries.length ? "Entries that it was shown" : "It was shown no entry."),
    ...(rests.length ? [el("ul", {}, ...rests)] : []),
    answer.scratchpad ? el("details", {}, el("summary", {}, "Scratchpad that it was shown"), el("div", { className: "text" }, answer.scratchpad)) : "",
    el("p", { className: "note" }, `${answer.model} · ${count(answer.usage.total_tokens, "token")} · `,
      el("button", { type: "button", className: "link", onclick: () => shown($("ask-problems"), () => show(answer.version)) }, `version ${answer.version}`)),
  ];
}

const used = (entry) => item("shown", [[`entry ${entry.entry_id}`], [sourceText(entry.source)]], entry.content);

$("asking").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = $("question").value;
  const submit = event.target.querySelector("button");
  submit.disabled = true;
  if (await ask(question)) $("question").value = "";
  submit.disabled = false;
  $("question").focus();
});

changed.addEventListener("session", () => {
  if (owner === store.session.id) return;
  owner = store.session.id;
  $("answers").replaceChildren();
  $("ask-problems").replaceChildren();
});
