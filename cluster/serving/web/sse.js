// Server-sent events out of a response's body (EventSource can neither POST nor send a key).

// Yields {name, data, id} for each event of a ReadableStream of bytes.
export async function* events(body) {
  let rest = "";
  for await (const piece of text(body)) {
    const blocks = (rest + piece).split(/\r\n\r\n|\n\n|\r\r/);
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event.data !== null) yield event;
    }
  }
}

// Chunks of text; when the consumer stops, the request is cancelled.
async function* text(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    await reader.cancel().catch(() => {}); // it may have broken off already
  }
}

function parse(block) {
  const event = { name: "message", data: null, id: null };
  for (const line of block.split(/\r\n|\n|\r/)) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") event.name = value;
    if (field === "id") event.id = value;
    if (field === "data") event.data = event.data === null ? value : `${event.data}\n${value}`;
  }
  return event;
}
