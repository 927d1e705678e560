"""The synthetic registry: a generated world of people, companies, cities and countries in plain sentences.

Every person works at a company, every company is based in a city, every city lies in a country. Questions follow one
to three of these links; facts change later in the text, so that entries must be rewritten or removed; sentences that
no question needs are mixed in. A task is a function of (config, seed, index), so sources need no files.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from env.config import RegistryConfig
from env.registry_words import CITIES, COMPANIES, COUNTRIES, FIRST_NAMES, HOBBIES, LAST_NAMES
from env.types import Question, Task

NOWHERE = "nowhere"
RELATIONS = ("works at", "is based in", "lies in")
QUESTIONS = (
    "Where does {} work?",
    "In which city does {} work?",
    "In which country does {} work?",
)
_EVAL_OFFSET = 1 << 40  # train and eval draw from disjoint seeds


@dataclass(frozen=True)
class Fact:
    """One statement; `change` says whether it opens a relation, replaces its object, or ends it."""

    subject: str
    relation: str
    object: str
    change: Literal["new", "moved", "left"] = "new"

    def content(self) -> str:
        """The fact as one would note it down."""
        return f"{self.subject} {self.relation} {self.object}"

    def sentence(self) -> str:
        """The fact as the document states it."""
        if self.change == "left":
            return f"{self.subject} has left {self.object}."
        now = "now " if self.change == "moved" else ""
        return f"{self.subject} {now}{self.relation} {self.object}."


class RegistrySource:
    """Tasks of the registry by index; `split` "eval" never shares a task with "train"."""

    def __init__(self, config: RegistryConfig, seed: int, split: Literal["train", "eval"]) -> None:
        self._config, self._split = config, split
        self._base = seed * (1 << 20) + (_EVAL_OFFSET if split == "eval" else 0)

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> Task:
        return make_task(self._config, self._base + index, f"registry-{self._split}-{index}")


def make_task(config: RegistryConfig, seed: int, task_id: str) -> Task:
    """Generate one world, its document and its questions."""
    rng = random.Random(seed)
    facts = _world(config, rng)
    asked = _asked(config, rng, facts)
    changes = _changes(config, rng, facts, {person for person, _ in asked})
    document = _document(config, rng, facts, changes)
    final = {(fact.subject, fact.relation): fact for fact in document}
    questions = tuple(_question(final, person, hops) for person, hops in asked)
    return Task(task_id, tuple(fact.sentence() for fact in document), questions)


def _world(config: RegistryConfig, rng: random.Random) -> list[Fact]:
    hops = max(config.hops)
    people = _names(rng, config.people)
    companies = rng.sample(COMPANIES, min(config.companies, len(COMPANIES)))
    cities = rng.sample(CITIES, min(len(companies), len(CITIES)))
    facts = [Fact(person, RELATIONS[0], rng.choice(companies)) for person in people]
    if hops > 1:
        facts += [Fact(company, RELATIONS[1], rng.choice(cities)) for company in companies]
    if hops > 2:
        facts += [Fact(city, RELATIONS[2], rng.choice(COUNTRIES)) for city in cities]
    return facts


def _names(rng: random.Random, count: int) -> list[str]:
    """Distinct full names; beyond the pool a middle number keeps them apart."""
    pool = len(FIRST_NAMES) * len(LAST_NAMES)
    numbers = rng.sample(range(max(pool, count)), count)
    names = []
    for number in numbers:
        extra, index = divmod(number, pool)
        first, last = FIRST_NAMES[index % len(FIRST_NAMES)], LAST_NAMES[index // len(FIRST_NAMES)]
        names.append(f"{first} {last}" if extra == 0 else f"{first} {extra} {last}")
    return names


def _asked(config: RegistryConfig, rng: random.Random, facts: list[Fact]) -> list[tuple[str, int]]:
    """(person, hops) of each question: one question in half of the tasks, else 2..questions_max."""
    people = [fact.subject for fact in facts if fact.relation == RELATIONS[0]]
    several = config.questions_max > 1 and rng.random() < 0.5
    count = rng.randint(2, config.questions_max) if several else 1
    return [(person, rng.choice(config.hops)) for person in rng.sample(people, min(count, len(people)))]


def _changes(config: RegistryConfig, rng: random.Random, facts: list[Fact], asked: set[str]) -> list[Fact]:
    """Later statements about people: of those asked for with `change_rate`, of others with half of it."""
    companies = sorted({fact.object for fact in facts if fact.relation == RELATIONS[0]})
    changes = []
    for fact in facts:
        if fact.relation != RELATIONS[0]:
            continue
        others = [company for company in companies if company != fact.object]
        rate = config.change_rate if fact.subject in asked else config.change_rate / 2
        if not others or rng.random() >= rate:
            continue
        if rng.random() < config.leave_rate:
            changes.append(Fact(fact.subject, fact.relation, fact.object, "left"))
        else:
            changes.append(Fact(fact.subject, fact.relation, rng.choice(others), "moved"))
    return changes


def _document(config: RegistryConfig, rng: random.Random, facts: list[Fact], changes: list[Fact]) -> list[Fact]:
    """Facts and distractors in random order in the first part, changes in random order behind their original."""
    people = [fact.subject for fact in facts if fact.relation == RELATIONS[0]]
    count = round(len(facts) * config.distractor_rate / (1 - config.distractor_rate))
    extra = [Fact(rng.choice(people), "likes", rng.choice(HOBBIES)) for _ in range(count)]
    document = [*facts, *extra]
    rng.shuffle(document)
    for change in changes:
        changed = (change.subject, change.relation)
        original = next(i for i, fact in enumerate(document) if (fact.subject, fact.relation) == changed)
        earliest = max(original + 1, len(document) // 2)
        document.insert(rng.randint(earliest, len(document)), change)
    return document


def _question(final: dict[tuple[str, str], Fact], person: str, hops: int) -> Question:
    subject, changed = person, False
    for relation in RELATIONS[:hops]:
        fact = final[subject, relation]
        changed = changed or fact.change != "new"
        if fact.change == "left":
            subject = NOWHERE
            break
        subject = fact.object
    kind = f"{hops}-hop" + (" changed" if changed else "")
    return Question(QUESTIONS[hops - 1].format(person), (subject,), kind)
