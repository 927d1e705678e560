"""Needle tests in the manner of RULER (arXiv 2404.06654): numbers hidden in filler text, made from a seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from env.registry_words import CITIES, COMPANIES, HOBBIES
from env.types import Question, Task
from evaluation.official import string_match
from evaluation.suite import Suite

FILLER = (
    "The road to {city} was quiet that day.", "Somebody in {city} spoke about {hobby}.",
    "Rain fell on {city} for an hour.", "{hobby} was on everyone's mind.",
)  # fmt: skip
NEEDLE = "The secret number of {key} is {value}."


class Ruler(Suite):
    """`docs` paragraphs of filler with `needles` needles.

    single: one key, one number. multi-key: the other needles have other keys. multi-value: one key has all the
    numbers, and all are asked for. variables: a chain of assignments, and all names of the chain are asked for.
    """

    headline: ClassVar[str] = "official"
    kind: Literal["single", "multi-key", "multi-value", "variables"] = "single"
    docs: int = Field(50, ge=4)
    sentences: int = Field(8, ge=1, description="per paragraph")
    needles: int = Field(4, ge=2)

    def tasks(self, count: int, seed: int) -> Sequence[Task]:
        """Generated texts."""
        return [self._task(random.Random(f"{seed}/{self.kind}/{i}"), f"ruler-{seed}-{i}") for i in range(count)]

    def scores(self, answer: str | None, question: Question) -> dict[str, float]:
        """RULER's own score beside the others: the share of the wanted texts found in the answer."""
        return super().scores(answer, question) | {"official": string_match(answer, question.answers[0].split(", "))}

    def _task(self, rng: random.Random, task_id: str) -> Task:
        sentences, question = getattr(self, f"_{self.kind.replace('-', '_')}")(rng)
        units = [[self._filler(rng) for _ in range(self.sentences)] for _ in range(self.docs)]
        for place, sentence in zip(sorted(rng.sample(range(self.docs), len(sentences))), sentences, strict=True):
            units[place].insert(rng.randrange(self.sentences + 1), sentence)
        return Task(task_id, tuple(" ".join(unit) for unit in units), (question,))

    def _filler(self, rng: random.Random) -> str:
        hobby = rng.choice(HOBBIES).capitalize()
        return rng.choice(FILLER).format(city=rng.choice(CITIES), hobby=hobby)

    def _multi_key(self, rng: random.Random, keys: int = 0) -> tuple[list[str], Question]:
        names = rng.sample(COMPANIES, keys or self.needles)
        values = rng.sample(range(10**6, 10**7), len(names))
        sentences = [NEEDLE.format(key=k, value=v) for k, v in zip(names, values, strict=True)]
        rng.shuffle(sentences)
        return sentences, Question(f"What is the secret number of {names[0]}?", (str(values[0]),), self.kind)

    def _single(self, rng: random.Random) -> tuple[list[str], Question]:
        return self._multi_key(rng, keys=1)

    def _multi_value(self, rng: random.Random) -> tuple[list[str], Question]:
        name, values = rng.choice(COMPANIES), rng.sample(range(10**6, 10**7), self.needles)
        question = f"What are all the secret numbers of {name}? Give them separated by commas."
        sentences = [NEEDLE.format(key=name, value=value) for value in values]
        return sentences, Question(question, (", ".join(map(str, values)),), self.kind)

    def _variables(self, rng: random.Random) -> tuple[list[str], Question]:
        names = [f"X{number}" for number in rng.sample(range(100, 1000), self.needles)]
        value = rng.randrange(10**4, 10**5)
        sentences = [f"Let {names[0]} = {value}.", *(f"Let {b} = {a}." for a, b in zip(names, names[1:], strict=False))]
        question = f"Which variables have the value {value} in the end? Give their names separated by commas."
        return sentences, Question(question, (", ".join(names),), self.kind)
