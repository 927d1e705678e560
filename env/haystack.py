"""Long texts with needles: the supporting documents of 1-10 questions among distractors (RULER style)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from env.config import HaystackConfig
from env.errors import UserError
from env.qa_formats import Document, QARecord
from env.types import Task


class DocumentPool:
    """Distinct documents, addressed by position; the first `distractors` of them may be drawn as distractors.

    Two documents are the same when title and text agree apart from white space and case.
    """

    def __init__(self, documents: Iterable[Document]):
        self.documents: list[Document] = []
        self._index: dict[tuple[str, str], int] = {}
        for document in documents:
            if document.text:
                self.add(document)
        self.distractors = len(self.documents)

    def add(self, document: Document) -> int:
        """The position of the document, which is appended if the pool lacks it."""
        key = tuple("".join(part.split()).casefold() for part in (document.title, document.text))
        index = self._index.setdefault((key[0], key[1]), len(self.documents))
        if index == len(self.documents):
            self.documents.append(document)
        return index


def own_contexts(records: Iterable[QARecord]) -> DocumentPool:
    """The pool when no corpus is given: every document that the records bring along."""
    return DocumentPool(document for record in records for document in (*record.gold, *record.others))


class HaystackSource:
    """One task per record, built on access from (seed, split, index) alone.

    Task i asks record i's question; in half of the tasks it is the only one, in the others 1 to
    `questions_max` - 1 further records are drawn. Questions and documents are shuffled; no document occurs
    twice.
    """

    def __init__(
        self, records: Sequence[QARecord], pool: DocumentPool, config: HaystackConfig, *,
        seed: int, dataset: str, split: str, skipped: int = 0,
    ):
        """`skipped` is the number of malformed records and passages left out on loading, for reports.

        Raises UserError when the records or the pool cannot fill the haystacks that the configuration asks
        for."""
        self._records = records
        self._pool = pool
        self._gold = [tuple(dict.fromkeys(map(pool.add, record.gold))) for record in records]
        self._config = config
        self._seed, self._dataset, self._split = seed, dataset, split
        self.skipped = skipped
        self._check()

    def _check(self) -> None:
        wanted, asked = self._config.documents, self._config.questions_max
        if len(self._records) < asked:
            raise UserError(
                f"env.haystack.questions_max = {asked}, but the {self._split} split of {self._dataset} has "
                f"only {len(self._records)} records: lower env.haystack.questions_max or give more data"
            )
        if (available := self._pool.distractors) < wanted:
            raise UserError(
                f"env.haystack.documents = {wanted}, but the pool holds only {available} distinct documents: "
                "lower env.haystack.documents or give a larger env.haystack.corpus"
            )
        most = sum(sorted(map(len, self._gold), reverse=True)[:asked])
        if most > wanted:
            raise UserError(
                f"env.haystack.documents = {wanted}, but {asked} questions (env.haystack.questions_max) can "
                f"need {most} supporting documents: raise the one or lower the other"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"task {index} of {len(self)}")
        rng = random.Random(f"{self._seed}/{self._split}/{index}")
        chosen = self._choose_records(rng, index)
        places = self._choose_documents(rng, chosen)
        number = {place: i for i, place in enumerate(places, start=1)}
        return Task(
            task_id=f"{self._dataset}-{self._split}-{self._seed}-{index}",
            units=tuple(_unit(i, self._pool.documents[place]) for place, i in number.items()),
            questions=tuple(self._records[i].question for i in chosen),
            metadata={
                "dataset": self._dataset,
                "record_ids": [self._records[i].record_id for i in chosen],
                "gold_documents": [sorted(number[place] for place in self._gold[i]) for i in chosen],
            },
        )

    def _choose_records(self, rng: random.Random, index: int) -> list[int]:
        most = self._config.questions_max
        count = 1 if most == 1 or rng.random() < 0.5 else rng.randint(2, most)
        others = rng.sample(range(len(self._records) - 1), count - 1)
        chosen = [index, *(other + (other >= index) for other in others)]
        rng.shuffle(chosen)
        return chosen

    def _choose_documents(self, rng: random.Random, chosen: list[int]) -> list[int]:
        """Positions in the pool: the gold documents of the chosen records, filled up with others,
        shuffled."""
        places = dict.fromkeys(place for i in chosen for place in self._gold[i])
        # As many as the haystack holds: enough are left when those that are gold already are taken out.
        drawn = rng.sample(range(self._pool.distractors), self._config.documents)
        free = [place for place in drawn if place not in places]
        result = [*places, *free[: self._config.documents - len(places)]]
        rng.shuffle(result)
        return result


def _unit(number: int, document: Document) -> str:
    return f"Document {number}:\n{document.title}\n{document.text}"
