"""The package mem0ai in a process of its own, whose OpenAI client is answered by the episode that started it.

    mem0_worker.py (its own Python) --POST /v1/chat/completions--> asks() -> a step of the episode -> answer()
                                    --POST /v1/embeddings--------> the variant's embedder
    episode --begin("add", chunk)--> stdin ... stdout --> result()
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import web

from env.embedding import BatchedEmbedder

WORKER = Path(__file__).with_name("mem0_worker.py")
MAX_LINE = 1 << 24  # bytes of one reply


class Mem0Process:
    """One mem0 memory, for one episode. Use it as an asynchronous context manager.

    Args:
        python: an interpreter that can import mem0 and faiss.
        embedder: for all that mem0 embeds.
        top_k: memories that a search returns.
    """

    def __init__(self, python: str, embedder: BatchedEmbedder, top_k: int) -> None:
        self._python, self._embedder, self._top_k = python, embedder, top_k
        self._questions: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()
        self._result: asyncio.Task[Any] | None = None
        self._reply: asyncio.Future[str] | None = None
        self.searches = 0

    async def __aenter__(self) -> Mem0Process:
        app = web.Application(client_max_size=MAX_LINE)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embed)
        self._server = web.AppRunner(app)
        await self._server.setup()
        site = web.TCPSite(self._server, "127.0.0.1", 0)
        await site.start()
        port = self._server.addresses[0][1]
        self._folder = tempfile.TemporaryDirectory(prefix="mem0-")
        arguments = [str(WORKER), f"http://127.0.0.1:{port}/v1", str(self._embedder.dim), self._folder.name]
        pipe = asyncio.subprocess.PIPE
        self._worker = await asyncio.create_subprocess_exec(
            self._python, *arguments, stdin=pipe, stdout=pipe, stderr=pipe, limit=MAX_LINE
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._result is not None:
            self._result.cancel()
        if self._worker.returncode is None:
            self._worker.kill()
        await self._worker.wait()
        await self._server.cleanup()
        self._folder.cleanup()

    def begin(self, command: str, text: str) -> None:
        """Start "add" or "search"; then `asks` and `answer` until `asks` gives None, and `result`."""
        self._result = asyncio.ensure_future(self._call(command, text))

    async def asks(self) -> str | None:
        """The next prompt that mem0 wants answered, or None when the command is done."""
        assert self._result is not None
        waiting = asyncio.ensure_future(self._questions.get())
        await asyncio.wait([waiting, self._result], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            return None
        prompt, self._reply = waiting.result()
        return prompt

    def answer(self, text: str) -> None:
        """Answer the prompt that `asks` gave."""
        assert self._reply is not None
        self._reply.set_result(text)

    async def result(self) -> list[dict[str, Any]]:
        """The memories that the command changed or found. Raises RuntimeError with mem0's own words when it died."""
        assert self._result is not None
        return await self._result

    async def _call(self, command: str, text: str) -> list[dict[str, Any]]:
        assert self._worker.stdin and self._worker.stdout and self._worker.stderr
        self._worker.stdin.write(json.dumps([command, text, self._top_k]).encode() + b"\n")
        line = await self._worker.stdout.readline()
        if not line:
            raise RuntimeError(f"mem0 ended: {(await self._worker.stderr.read()).decode()[-500:]}")
        reply = json.loads(line)
        self.searches += reply["searches"]
        return reply["memories"]

    async def _chat(self, request: web.Request) -> web.Response:
        messages = (await request.json())["messages"]
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._questions.put_nowait(("\n\n".join(message["content"] for message in messages), reply))
        message = {"role": "assistant", "content": await reply}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return web.json_response(_envelope("chat.completion", choices=[choice]))

    async def _embed(self, request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        vectors = await self._embedder.embed([texts] if isinstance(texts, str) else texts, "passage")
        rows = [{"object": "embedding", "index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
        return web.json_response(_envelope("list", data=rows))


def _envelope(kind: str, **content: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {"id": "0", "object": kind, "created": 0, "model": "policy", "usage": usage, **content}
