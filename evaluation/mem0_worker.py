"""Runs the package mem0ai for `evaluation.mem0_bridge`, in whatever Python has it: a JSON line in, a JSON line out.

    mem0_worker.py BASE_URL DIMENSIONS FOLDER      # then lines [command, text, top_k] on stdin
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Serve until stdin ends. What libraries print goes to stderr."""
    url, dimensions, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": folder}
    out, sys.stdout = sys.stdout, sys.stderr
    from mem0 import Memory

    model = {"openai_base_url": url, "api_key": "none"}
    store = {"path": f"{folder}/faiss", "embedding_model_dims": dimensions, "collection_name": "memory"}
    memory = Memory.from_config(
        {
            "llm": {"provider": "openai", "config": {**model, "model": "policy"}},
            "embedder": {"provider": "openai", "config": {**model, "model": "e", "embedding_dims": dimensions}},
            "vector_store": {"provider": "faiss", "config": store},
            "history_db_path": f"{folder}/history.db",
        }
    )
    searches = 0
    search = memory.vector_store.search

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal searches
        searches += 1
        return search(*args, **kwargs)

    memory.vector_store.search = counted
    for line in sys.stdin:
        command, text, top_k = json.loads(line)
        if command == "add":
            found = memory.add([{"role": "user", "content": text}], user_id="task")["results"]
        else:
            found = memory.search(text, user_id="task", limit=top_k)["results"]
        memories = [
            {"id": m["id"], "memory": m["memory"], "event": m.get("event", ""), "score": float(m.get("score") or 0)}
            for m in found
        ]
        out.write(json.dumps({"memories": memories, "searches": searches}) + "\n")
        out.flush()
        searches = 0


if __name__ == "__main__":
    main()
