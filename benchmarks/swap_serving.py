"""Swap the checkpoint of a running endpoint under load and count what fails. Run by hand:

    python -m benchmarks.swap_serving --seconds 60 --clients 4

Starts `atommem serve` with the tiny policy. Clients ask without pause, each in a session of its own that has read a
text; one in four requests reads another. Meanwhile `atommem deploy` goes to and fro between two checkpoints, and once
names a damaged one, which has to be refused. Every request must be answered, by a version that was deployed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import safetensors.torch
import torch

from benchmarks.serving_process import MODEL, ROOT, Endpoint, endpoint

TEXT = "Anna Berg works at Solaria ."


def checkpoints(folder: Path) -> tuple[Path, Path]:
    """A checkpoint with other weights than the tiny policy's, and one whose file is cut off."""
    other, damaged = folder / "other", folder / "damaged"
    for copy in (other, damaged):
        shutil.copytree(MODEL, copy)
    file = other / "model.safetensors"
    noise = torch.Generator().manual_seed(0)
    weights = {
        name: tensor + 1e-3 * torch.randn(tensor.shape, generator=noise).to(tensor.dtype)
        for name, tensor in safetensors.torch.load_file(file).items()
    }
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    cut = damaged / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return other, damaged


async def ask(client: httpx.AsyncClient, deadline: float, seen: Counter[str], seconds: list[float]) -> None:
    """One client: what the answers were, and how long each took."""
    made = (await client.post("/v1/sessions", json={})).raise_for_status().json()
    path = f"/v1/sessions/{made['id']}"
    (await client.post(f"{path}/documents", content=TEXT)).raise_for_status()
    while time.monotonic() < deadline:
        begun = time.perf_counter()
        try:
            if random.random() < 0.25:
                answer = await client.post(f"{path}/documents", content=TEXT)
                went = answer.is_success and "event: error" not in answer.text
                seen["read" if went else f"failed: {answer.text}"] += 1
            else:
                answer = await client.post(f"{path}/questions", json={"question": "Where does Anna Berg work ?"})
                seen[answer.json()["model"] if answer.is_success else f"failed: {answer.text}"] += 1
        except httpx.HTTPError as error:
            seen[f"failed: {error!r}"] += 1
        seconds.append(time.perf_counter() - begun)


async def deploy(url: str, checkpoint: Path) -> str:
    """`atommem deploy`, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cluster.cli", "deploy", str(checkpoint), "--url", url, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    return (await process.communicate())[0].decode().strip()


async def measure(served: Endpoint, folder: Path, clients: int, length: float) -> bool:
    """Clients and deployments at once. Answers whether nothing failed and the damaged one was refused."""
    other, damaged = checkpoints(folder)
    seen: Counter[str] = Counter()
    seconds: list[float] = []
    async with httpx.AsyncClient(base_url=served.url, timeout=120) as client:
        await served.ready(client)
        deadline = time.monotonic() + length
        asking = [asyncio.create_task(ask(client, deadline, seen, seconds)) for _ in range(clients)]
        said, turn = [], [other, damaged, MODEL]
        while time.monotonic() < deadline - 5:
            said.append(await deploy(served.url, turn[len(said) % len(turn)]))
            await asyncio.sleep(1)
        await asyncio.gather(*asking)
    p50, p95 = np.percentile(seconds, [50, 95])
    failed = sum(number for what, number in seen.items() if what.startswith("failed"))
    print("\n".join(said))
    print(json.dumps(dict(seen), indent=1))
    times = f"p50 {p50:.2f} s, p95 {p95:.2f} s, longest {max(seconds):.2f} s"
    print(f"{len(seconds)} requests in {length:g} s, {failed} failed; {times}")
    return failed == 0 and any("is refused" in line for line in said) and any("is active" in line for line in said)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Swap the checkpoint of an endpoint under load.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--port", type=int, default=8733)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        with endpoint(folder, options.port) as served:
            good = asyncio.run(measure(served, folder, options.clients, options.seconds))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
