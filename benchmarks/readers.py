"""Clients that read documents through an endpoint without end, and remember every event that they were told."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import httpx

from env.registry_words import FIRST_NAMES, LAST_NAMES

# One reader each. A policy that loses its thread may invent a name; both names of another reader it does not invent.
NAMES = tuple(f"{first} {last}" for first, last in zip(FIRST_NAMES, LAST_NAMES, strict=False))[:8]
COMPANIES = ("Solaria", "Nimbus", "Umbra")


class Reader:
    """One session that reads document after document, and what it was told."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.client, self.name = client, name
        self.told: dict[int, dict[str, Any]] = {}
        self.documents = self.broken = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Read until told to stop."""
        made = await self._until_done("POST", "/v1/sessions", json={"name": self.name})
        self.path = f"/v1/sessions/{made['id']}"
        while not stop.is_set():
            await self._read()

    async def _read(self) -> None:
        number = self.documents = self.documents + 1
        facts = [f"{self.name} works at {random.choice(COMPANIES)} ." for _ in range(12)]
        key = {"Idempotency-Key": f"{self.name}-{number}"}
        await self._until_done("POST", f"{self.path}/documents?background=true", content="\n".join(facts), headers=key)
        last = max(self.told, default=0)
        while True:
            try:
                async with self.client.stream(
                    "GET", f"{self.path}/documents/{number}/events", headers={"Last-Event-ID": str(last)}
                ) as response:
                    opened = False  # the first event says how far the document is, the last one that it is done
                    async for line in response.aiter_lines():
                        if not line.startswith("data: "):
                            continue
                        data = json.loads(line[6:])
                        if "operations" in data:
                            assert data["version"] not in self.told, "an event was told twice"
                            self.told[data["version"]] = data
                            last = data["version"]
                        elif opened and data.get("state") == "done":
                            return
                        opened = True
            except httpx.HTTPError:
                pass
            self.broken += 1
            await asyncio.sleep(0.5)

    async def _until_done(self, method: str, path: str, **request: Any) -> Any:
        """Repeat a request (documents carry a key) until it is answered."""
        while True:
            try:
                answer = await self.client.request(method, path, **request)
                if answer.is_success:
                    return answer.json()
                assert answer.status_code in (500, 503, 429), answer.text
            except httpx.HTTPError:
                pass
            self.broken += 1
            await asyncio.sleep(0.5)

    async def check(self) -> dict[str, int]:
        """Compare what was told with what is there. Returns counts of what is wrong."""
        log = [item async for item in self._pages("log")]
        chunks = [(item["document"], item["chunk"]) for item in log]
        documents = (await self.client.get(f"{self.path}/documents")).json()["items"]
        expected = [(d["number"], c) for d in documents for c in range(d["chunks"])]
        by_version = {item["version"]: item for item in log}
        lost = sum(by_version.get(version) != told for version, told in self.told.items())
        entries = [item async for item in self._pages("memory", "entries")]
        foreign = [item for item in log if self._foreign(json.dumps(item["steps"]))]
        for item in foreign:
            source = await self.client.get(f"{self.path}/documents/{item['document']}/chunks/{item['chunk']}")
            print(f"{self.name} is told of another: {item}\n  the chunk was {source.json()}", flush=True)
        return {
            "chunks": len(expected), "told": len(self.told), "lost": lost,
            "doubled": len(chunks) - len(set(chunks)), "disordered": int(chunks != expected),
            "wrong entries": int({e["entry_id"]: e["content"] for e in entries} != _replayed(log)),
            "leaked": sum(self._foreign(entry["content"]) for entry in entries),
        }  # fmt: skip

    def _foreign(self, text: str) -> bool:
        return any(name in text for name in NAMES if name != self.name)

    async def _pages(self, what: str, items: str = "items") -> Any:
        after: int | None = 0
        while after is not None:
            page = (await self.client.get(f"{self.path}/{what}?limit=1000&after={after}")).json()
            for item in page[items]:
                yield item
            after = page["next"]


def _replayed(log: list[dict[str, Any]]) -> dict[int, str]:
    """The entries that the log's operations add up to."""
    entries: dict[int, str] = {}
    for operation in (o for item in log for o in item["operations"] if o["outcome"] == "ok"):
        if operation["kind"] in ("create", "update"):
            entries[operation["entry_id"]] = operation["text"]
        elif operation["kind"] == "delete":
            del entries[operation["entry_id"]]
    return entries
