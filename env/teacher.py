"""The scripted teacher of the registry: it plays an episode from what the prompt shows, with adjustable skill."""

from __future__ import annotations

import random
import re

from env.config import TeacherConfig
from env.operations import PAPER, Answer, Create, Delete, Dialect, Operation, Read, Scratchpad, Update, render
from env.prompt import View
from env.registry import NOWHERE, QUESTIONS, RELATIONS, Fact

_SENTENCE = re.compile(
    r"(?P<subject>[A-Z]\w*(?: [A-Z0-9]\w*)*) (?P<verb>(?:now )?works at|is based in|lies in|has left|likes)"
    r" (?P<object>\w+)"
)
_ASKED = [re.compile(question.replace("?", r"\s?\?").format("(.+?)")) for question in QUESTIONS]


def read_facts(text: str) -> list[Fact]:
    """The registry facts stated in a text, in order."""
    return [_fact(match["subject"], match["verb"], match["object"]) for match in _SENTENCE.finditer(text)]


def _fact(subject: str, verb: str, obj: str) -> Fact:
    if verb == "has left":
        return Fact(subject, RELATIONS[0], obj, "left")
    return Fact(subject, verb.removeprefix("now "), obj, "moved" if verb.startswith("now ") else "new")


def read_question(question: str) -> tuple[str, int]:
    """(person, hops) of a registry question."""
    for hops, pattern in enumerate(_ASKED, start=1):
        if match := pattern.fullmatch(question.strip()):
            return match.group(1), hops
    raise ValueError(f"not a registry question: {question!r}")


class Teacher:
    """Acts on `View`s of one episode of a registry task; `skill` says how often it does what it should."""

    def __init__(self, skill: TeacherConfig, seed: int, dialect: Dialect = PAPER) -> None:
        self._skill, self._dialect = skill, dialect
        self._random = random.Random(seed)
        self._attend = 1.0 if self._chance(skill.diligent) else skill.attend

    def act(self, view: View) -> str:
        """The text a model would write at this step."""
        operations = self._read_chunk(view) if view.phase == "chunk" else self._answer(view)
        return render(operations, self._dialect)

    def _read_chunk(self, view: View) -> list[Operation]:
        if view.query is None and not self._chance(self._attend):
            return []
        facts = read_facts(view.chunk)
        if view.query is None and view.reads_left > 0 and (wanted := self._wanted(facts)):
            return [Read(f"{wanted.subject} {wanted.relation}")]
        asked = {read_question(question)[0] for question in view.questions}
        return [operation for fact in facts if (operation := self._keep(fact, view, asked))]

    def _wanted(self, facts: list[Fact]) -> Fact | None:
        """The fact whose old entry is worth a look, or (idly) the first one."""
        changed = [fact for fact in facts if fact.change != "new"]
        if changed and self._chance(self._skill.look_up):
            return changed[0]
        return facts[0] if facts and self._chance(self._skill.idle_read) else None

    def _keep(self, fact: Fact, view: View, asked: set[str]) -> Operation | None:
        if fact.change != "new" and (old := _entry_about(fact, view)):
            if not self._chance(self._skill.revise):
                return None
            return Delete(old) if fact.change == "left" else Update(old, fact.content())
        if fact.change == "left":
            return None
        chance = self._skill.store_asked if fact.subject in asked else self._skill.store
        if fact.relation not in RELATIONS:
            chance = self._skill.store_distractor
        return Create(fact.content()) if self._chance(chance) else None

    def _answer(self, view: View) -> list[Operation]:
        person, hops = read_question(view.question)
        if view.query is None:
            return [Read(f"{person} {RELATIONS[0]}")]
        relation = next((r for r in RELATIONS if view.query.endswith(r)), RELATIONS[0])
        subject = view.query.removesuffix(relation).strip()
        stored = [fact for entry in view.retrieved for fact in read_facts(entry.content)]
        found = [fact for fact in stored if (fact.subject, fact.relation) == (subject, relation)]
        if not found:
            return [Answer(NOWHERE)]
        link = self._random.choice(found)
        if RELATIONS.index(relation) == hops - 1 or view.reads_left == 0:
            return [Answer(link.object)]
        note: list[Operation] = [Scratchpad(link.content())] if self._chance(self._skill.note) else []
        return [*note, Read(f"{link.object} {RELATIONS[RELATIONS.index(relation) + 1]}")]

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability


def _entry_about(fact: Fact, view: View) -> int | None:
    """The label of the shown entry that holds the same relation of the same subject with another object."""
    for entry in view.retrieved:
        for old in read_facts(entry.content):
            same = (old.subject, old.relation) == (fact.subject, fact.relation)
            if same and (old.object != fact.object or fact.change == "left"):
                return entry.label
    return None
