// Elements. Texts of documents, entries and answers are untrusted: they only ever become text nodes.

export const $ = (id) => document.getElementById(id);

export function el(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

export const button = (text, onclick, className = "") => el("button", { type: "button", className, onclick }, text);

export const empty = (text) => el("p", { className: "empty" }, text);

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// An operation or an entry: a coloured bar, a line of tags ([text, style] or a node), and the text.
export function item(kind, tags, ...body) {
  const spans = tags.map((tag) => (tag instanceof Node ? tag : el("span", { className: tag[1] || "" }, tag[0])));
  return el("li", { className: `item ${kind}` }, el("div", { className: "head" }, ...spans), el("div", {}, ...body));
}

// `document` is text nodes only; a source is where an entry was written.
export function sourceText(source) {
  return source && source.document !== null && source.document !== undefined
    ? `document ${source.document}, chunk ${source.chunk + 1}` : "by hand or while answering";
}

let last = 0, waiting;
// Tell screen readers, at most every two seconds; only the newest waits.
export function announce(text) {
  clearTimeout(waiting);
  const speak = () => { last = Date.now(); $("status").textContent = text; };
  waiting = setTimeout(speak, Math.max(0, last + 2000 - Date.now()));
}
