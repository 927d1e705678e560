"""Small records in the official formats, written for the tests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any


def hotpot(number: int, paragraphs: int = 4) -> dict[str, Any]:
    """A HotpotQA record: its first two paragraphs support the answer, the others are its own distractors."""
    titles = [f"Topic {number}.{i}" for i in range(paragraphs)]
    return {
        "_id": f"h{number}",
        "question": f"What is fact {number}?",
        "answer": f"Answer {number}",
        "type": "bridge",
        "level": "easy",
        "supporting_facts": [[titles[0], 1], [titles[1], 0]],
        "context": [[title, [f"{title} opens.", f" {title} goes on."]] for title in titles],
    }


def wiki(number: int) -> dict[str, Any]:
    """A 2WikiMultihopQA record."""
    extra = {"entity_ids": "Q1_Q2", "evidences": [["a", "b", "c"]], "evidences_id": [["Q1", "b", "Q2"]]}
    return {**hotpot(number), "type": "comparison", **extra, "answer_id": f"Q{number}"}


def musique(number: int, paragraphs: int = 5) -> dict[str, Any]:
    """A MuSiQue record of two hops."""
    rows = [
        {
            "idx": i,
            "title": f"Topic {number}",
            "paragraph_text": f"Part {i} of {number}.",
            "is_supporting": i in (1, 3),
        }
        for i in range(paragraphs)
    ]
    hop = {"id": 1, "question": "A >> b", "answer": "x", "paragraph_support_idx": 1}
    return {
        "id": f"2hop__{number}_{number + 1}",
        "question": f"What is part {number}?",
        "answer": f"Answer {number}",
        "answer_aliases": [f"The {number}th", f"Answer {number}", " "],
        "answerable": True,
        "paragraphs": rows,
        "question_decomposition": [hop, {**hop, "id": 2, "paragraph_support_idx": 3}],
    }


def write_json(path: Path, value: Any) -> str:
    """Write a JSON list, or for `.jsonl` one value a line; packed for `.gz`. Returns the path."""
    lines = ".jsonl" in path.suffixes
    text = "\n".join(map(json.dumps, value)) + "\n" if lines else json.dumps(value)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)
