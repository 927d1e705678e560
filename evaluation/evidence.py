"""Why an answer came out as it did, as far as the recorded episode decides it.

The evidence for a question is followed by its gold answer's words: where they stood in the text, whether they
were written into memory, whether they were still there, and whether they were shown when the question was
answered. Where a sentence of the text has both the gold answer and a word of the question, only what has both
counts as evidence (a name that answers one question may stand in many sentences). Words are compared after the
answer normalisation of the metrics. An answer such as "yes" stands nowhere and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bm25s.stopwords import STOPWORDS_EN

from env.metrics import cover_em, normalize
from evaluation.replay import Change, State, replay

UNDECIDABLE = {"", "yes", "no", "noanswer"}
LOSSES = (  # where evidence can be lost, in the order of an episode
    "never stored", "stored wrong", "discarded", "overwritten", "not retrieved", "misread", "unanswered", "undecided",
)  # fmt: skip
_SENTENCE = re.compile(r"[^.!?\n]+")
_STOPWORDS = {normalize(word) for word in STOPWORDS_EN} | {"who", "what", "where", "which", "when", "does", "did"}


@dataclass(frozen=True)
class Explanation:
    """Why an answer came out.

    Attributes:
        cause: right, or one of LOSSES.
        text: a sentence; it calls steps by their number from 1.
        step: the step at which the evidence was lost, else the answering step; 0 when there is none.
        entries: ids of the entries shown at the answering step that contain the gold answer.
    """

    cause: str
    text: str
    step: int = 0
    entries: tuple[int, ...] = ()


def is_right(answer: dict[str, Any]) -> bool:
    """Whether an answer counts as right: by the judge where there was one, else by exact match."""
    scores = answer["scores"]
    return scores.get("judge", scores.get("em", 0.0)) >= 1.0


def explain(trajectory: dict[str, Any]) -> list[Explanation]:
    """One explanation per answer of a trajectory (as JSON), in the order of the questions."""
    states = replay(trajectory["turns"])
    return [_Case(trajectory, states, position).explain() for position in range(len(trajectory["answers"]))]


class _Case:
    """One question of one episode. `last` is the index of its answering step, -1 if it was never reached."""

    def __init__(self, trajectory: dict[str, Any], states: list[State], position: int) -> None:
        self.states = states
        self.records = [turn["record"] for turn in trajectory["turns"]]
        self.answer = trajectory["answers"][position]
        self.golds = [gold for gold in self.answer["gold"] if normalize(gold) not in UNDECIDABLE]
        at = ("question", position)
        self.last = max(
            (i for i, r in enumerate(self.records) if (r["phase"], r["position"]) == at), default=-1
        )
        self.keys = _words(self.answer["question"])
        chunks = (r["text"] for r in self.records if r["phase"] == "chunk")
        self.linked = any(self.keys & _words(sentence) for text in chunks for sentence in self._gold_sentences(text))

    def has_gold(self, text: str) -> bool:
        return self._says_gold(text) and (not self.linked or bool(self.keys & _words(text)))

    def _says_gold(self, text: str) -> bool:
        return bool(self.golds) and cover_em(text, self.golds) == 1.0

    def _gold_sentences(self, text: str) -> Iterator[str]:
        if self._says_gold(text):
            yield from (sentence for sentence in _SENTENCE.findall(text) if self._says_gold(sentence))

    def explain(self) -> Explanation:
        if self.last < 0:
            return Explanation("unanswered", f"The episode ended after {self._end()}, before this question.")
        shown = tuple(i for i, text in self.records[self.last]["retrieved"] if self.has_gold(text))
        if is_right(self.answer):
            return Explanation("right", self._right(shown), self.last + 1, shown)
        if not self.golds:
            no_phrase = "The gold answer is no phrase that the text would contain."
            return Explanation("undecided", no_phrase, self.last + 1)
        cause, text, step = self._wrong(shown)
        if self.answer["answer"] is None:
            return Explanation("unanswered", f"The episode ended without an answer. {text}", self.last + 1, shown)
        return Explanation(cause, text + self._source(), step, shown)

    def _end(self) -> str:
        return f"step {len(self.records)}" if self.records else "no step at all"

    def _right(self, shown: tuple[int, ...]) -> str:
        holders: list[int | str] = list(shown)
        if not holders and self.has_gold(self.records[self.last]["scratchpad"]):
            holders = ["scratchpad"]
        if holders:
            return f"The gold answer was shown when the question was answered, in {self._origins(holders)}."
        return "Nothing shown at the answering step contains the gold answer: it was inferred or guessed."

    def _wrong(self, shown: tuple[int, ...]) -> tuple[str, str, int]:
        """Cause, sentence and step, from the nearest possible loss (misread) to the farthest (never stored)."""
        number = self.last + 1
        step = f"step {number}"
        if shown:
            return "misread", f"The gold answer was shown at {step}, in {_entries(shown)}, and not given.", number
        if self.has_gold(self.records[self.last]["scratchpad"]):
            return "misread", f"The gold answer stood in the scratchpad at {step} and was not given.", number
        held = [i for i, text in self.states[self.last].begin.items() if self.has_gold(text)]
        if held:
            where = self._origins(held)
            return "not retrieved", f"The gold answer was in memory but not shown at {step}: {where}.", number
        return self._lost() or self._discarded() or self._never_held()

    def _lost(self) -> tuple[str, str, int] | None:
        """The last change that removed the gold answer from memory, if it was ever there."""
        for number in range(self.last, 0, -1):
            for change in self.states[number - 1].changes:
                had = change.old is not None and self.has_gold(change.old)
                if had and (change.kind == "delete" or not self.has_gold(change.text)):
                    how = _removal(change)
                    return "overwritten", f"The gold answer was in memory until {how} at step {number}.", number
        return None

    def _discarded(self) -> tuple[str, str, int] | None:
        for number, state in enumerate(self.states, 1):
            if any(change.outcome == "discarded" and self.has_gold(change.text) for change in state.changes):
                return "discarded", f"The gold answer was to be stored at step {number}: the memory was full.", number
        return None

    def _never_held(self) -> tuple[str, str, int]:
        read = [
            n for n, r in enumerate(self.records, 1) if r["phase"] == "chunk" and self.has_gold(r["text"])
        ]
        for number in read:
            if distorted := self._distorted(number):
                return "stored wrong", f"At step {number} the evidence was written as “{distorted}”.", number
        if read:
            steps = " and ".join(f"step {n}" for n in read[-3:])
            return "never stored", f"The gold answer was read at {steps} and never written into memory.", read[-1]
        nowhere = "The text that was read does not contain the gold answer's words."
        return "undecided", nowhere, self.last + 1

    def _distorted(self, number: int) -> str | None:
        """What a step wrote about an evidence sentence without its being evidence any more: the gold answer without
        the question's words, or at least half of the sentence's other words without the gold answer."""
        sentences = [s for s in self._gold_sentences(self.records[number - 1]["text"]) if self.has_gold(s)]
        for change in self.states[number - 1].changes:
            if change.kind not in ("create", "update", "scratchpad") or change.outcome != "ok":
                continue
            words = _words(change.text)
            for sentence in sentences:
                others = _words(sentence) - _words(" ".join(self.golds))
                if self._says_gold(change.text) or (others and 2 * len(others & words) >= len(others)):
                    return change.text
        return None

    def _source(self) -> str:
        """Where the wrong answer that was given stands, if it was shown."""
        given = self.answer["answer"]
        if normalize(given) in UNDECIDABLE:
            return ""
        found = [i for i, text in self.records[self.last]["retrieved"] if cover_em(text, [given])]
        return f" The answer given stands in {_entries(found)}." if found else ""

    def _origins(self, holders: Iterable[int | str]) -> str:
        """Entries (by id) or the scratchpad, each with the step that last brought the gold answer into it."""
        return " and ".join(self._origin(holder) for holder in holders)

    def _origin(self, holder: int | str) -> str:
        name = "the scratchpad" if holder == "scratchpad" else f"entry {holder}"
        for number in range(self.last, 0, -1):
            if any(self._gains(change, holder) for change in self.states[number - 1].changes):
                return f"{name} (written at step {number})"
        return name

    def _gains(self, change: Change, holder: int | str) -> bool:
        target = change.kind if change.kind == "scratchpad" else change.entry_id
        is_write = change.outcome == "ok" and change.kind in ("create", "update", "scratchpad")
        gained = self.has_gold(change.text) and not (change.old and self.has_gold(change.old))
        return is_write and target == holder and gained


def _words(text: str) -> set[str]:
    """The content words of a text, normalised."""
    return set(normalize(text).split()) - _STOPWORDS


def _entries(ids: Iterable[int]) -> str:
    return " and ".join(f"entry {i}" for i in ids)


def _removal(change: Change) -> str:
    if change.kind == "scratchpad":
        return "the scratchpad was rewritten"
    return f"entry {change.entry_id} was {'deleted' if change.kind == 'delete' else 'rewritten'}"
