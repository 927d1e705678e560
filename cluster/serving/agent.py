"""SessionAgent: reads documents and answers questions for sessions, with the environment and prompts of training.

One chunk, one question, or one edit by hand is one unit of work: the session is held, the unit is played on its
memory, and everything is committed in one transaction before anyone is told. Whatever goes wrong before that leaves the
database as it was, and the session is loaded again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sqlalchemy.exc import IntegrityError

from cluster.serving.background import Background
from cluster.serving.config import ServingConfig
from cluster.serving.database import Database
from cluster.serving.document_rows import NewDocument
from cluster.serving.errors import (
    Conflict,
    Moved,
    NotFound,
    TooLarge,
    Unprocessable,
    VersionMismatch,
    refusals,
)
from cluster.serving.live import OUTDATED, LiveSessions
from cluster.serving.repository import Repository, Work
from cluster.serving.schemas import Answer, Commit, Document, Entry, Reading, SearchResult
from cluster.serving.texts import units_of
from cluster.serving.unit import Parts, Unit
from cluster.serving.views import Event, commit_view, document_view, entry_view, operation_view
from env.chunking import split
from env.embedding import BatchedEmbedder
from env.errors import TaskError
from env.memory_env import Continuation
from env.operations import Create, Delete, Scratchpad, Update
from env.tokenizer import ChatTokenizer
from env.transition import Memory, apply
from env.types import Question, Task
from rollout.types import Generator

Edit = Create | Update | Delete | Scratchpad
_PAGE = 100  # commits that are sent to a late listener at once


class SessionAgent:
    """One replica's sessions. All methods may run at once; work on one session is done in turn."""

    def __init__(
        self,
        config: ServingConfig,
        database: Database,
        tokenizer: ChatTokenizer,
        embedder: BatchedEmbedder,
        generator: Generator,
    ) -> None:
        self._config, self._database, self._tokenizer, self._embedder = config, database, tokenizer, embedder
        self._parts = Parts(config, tokenizer, embedder, generator)
        self.live = LiveSessions(config, embedder.dim)
        self.background = Background(self.read_next, config.resume_after_s, database)

    def _repository(self, tenant: str) -> Repository:
        return Repository(self._database, tenant)

    # -- documents -------------------------------------------------------------------------------------------------

    async def add_document(
        self, tenant: str, session_id: str, text: str, title: str, key: str | None, background: bool
    ) -> Document:
        """Cut and store a text; nothing is read yet. The same key and text give the document there is already.

        Raises NotFound, TooLarge, TooMany, Conflict, Unprocessable.
        """
        with refusals():
            repository = self._repository(tenant)
            await repository.version(session_id)
            parts, tokens = await asyncio.to_thread(self._cut, text)
            new = NewDocument(text, title, parts, tokens, key, background)
            for _ in range(2):
                if (known := await repository.known_document(session_id, new)) is not None:
                    return document_view(known)
                try:
                    limit = self._config.limits.documents
                    return document_view(await repository.add_document(session_id, new, limit))
                except IntegrityError:  # the same key came twice at the same time: look again
                    continue
            raise Conflict(f"Idempotency-Key {key!r}: the document was removed while it was added")

    def _cut(self, text: str) -> tuple[tuple[str, ...], int]:
        limit = self._config.limits.document_tokens
        if not text.strip() or "\0" in text:
            raise Unprocessable("the document is empty" if not text.strip() else "the document is binary, not text")
        tokens = len(self._tokenizer.encode(text))
        if tokens > limit:
            raise TooLarge(f"the document has {tokens} tokens, the limit is {limit}: send it in parts")
        env = self._config.env
        return split(units_of(text, env.chunk_boundary), self._tokenizer, env), tokens

    async def read(self, tenant: str, session_id: str, number: int, after: int = 0) -> AsyncIterator[Event]:
        """Read a document to its end, with one event per committed chunk; those after version `after` come first.

        Raises NotFound, Unprocessable (a prompt that cannot fit; the document has failed), Unavailable.
        """
        repository = self._repository(tenant)
        with refusals():
            document = document_view(await repository.document(session_id, number))
            yield Event("document", document)
            commit: Commit | None = None
            while True:
                if commit is None:  # at first, and when another writer reads too: what the database knows
                    document = document_view(await repository.document(session_id, number))
                    told = document.read
                    async for commit in self._told(repository, session_id, number, after):
                        yield Event("chunk", commit, commit.version)
                        after, told = commit.version, (commit.chunk or 0) + 1
                if document.state != "pending" or told == document.chunks:
                    break
                commit = await self.read_next(repository, session_id)
                if commit is not None and (commit.document, commit.chunk) == (number, told):
                    yield Event("chunk", commit, commit.version)
                    after, told = commit.version, told + 1
                else:
                    commit = None
            yield Event("document", document_view(await repository.document(session_id, number)))

    async def _told(
        self, repository: Repository, session_id: str, number: int, after: int
    ) -> AsyncIterator[Commit]:
        """The commits of a document that are later than the version `after`."""
        while rows := await repository.log(session_id, after, _PAGE, number):
            for commit in map(commit_view, rows):
                yield commit
                after = commit.version

    async def read_next(self, repository: Repository, session_id: str) -> Commit | None:
        """Read the next unread chunk of the session, whichever document it is in; None when there is none.

        When another writer was first nothing is committed and nothing is lost: None too, call again.
        """
        async with self.live.hold(repository, session_id) as live:
            chunk = await repository.next_chunk(session_id)
            if chunk is None:
                return None
            start = Continuation(live.store, (chunk.text,), chunk.read, chunk.chunks, live.focus, live.query)
            unit = Unit(self._parts, repository, session_id, live)
            try:
                async for _ in unit.play(Task(session_id, (), ()), start):
                    pass
                return await unit.commit(Work("chunk", live.store, unit.env.query, chunk.number, chunk.read))
            except TaskError as error:
                await repository.set_document(session_id, chunk.number, state="failed", error=str(error))
                raise
            except Moved:
                live.version = OUTDATED
                return None

    # -- questions -------------------------------------------------------------------------------------------------

    async def ask(
        self, tenant: str, session_id: str, question: str, may_be_empty: bool = False
    ) -> AsyncIterator[Event]:
        """Answer a question: an event per look-up, then the committed answer.

        Raises NotFound, Conflict (nothing was read yet, or another writer was first), TooLarge, Unavailable.
        """
        repository = self._repository(tenant)
        with refusals():
            self._check_length(question, self._config.limits.question_tokens, "the question")
            async with self.live.hold(repository, session_id) as live:
                if live.version == 0 and not may_be_empty:
                    raise Conflict(f"session {session_id} has read nothing yet: give it a document first")
                task = Task(session_id, (), (Question(question, ()),))
                start = Continuation(live.store, focus=live.focus, query=live.query)
                unit = Unit(self._parts, repository, session_id, live)
                async for turn in unit.play(task, start):
                    if turn.record.query is not None:
                        step = await unit.step(turn.record)
                        yield Event("reading", Reading(query=turn.record.query, entries=step.retrieved))
                body = {"question": question, "answer": unit.env.result().answers[0].answer}
                commit = await unit.commit(Work("question", live.store, body=body))
            yield Event("answer", _answer(commit), commit.version)

    # -- by hand ---------------------------------------------------------------------------------------------------

    async def edit(self, tenant: str, session_id: str, edit: Edit, expected: int | None = None) -> Commit:
        """Apply a user's own operation to the memory, as the next commit.

        Raises NotFound, VersionMismatch (the session is not at version `expected`), TooLarge, Conflict (it is full).
        """
        repository = self._repository(tenant)
        content = "" if isinstance(edit, Delete) else edit.content
        with refusals():
            self._check_length(content, self._config.limits.entry_tokens, "the text")
            vector = None
            if isinstance(edit, Create | Update):
                vector = (await self._embedder.embed([content], "passage"))[0]
            async with self.live.hold(repository, session_id) as live:
                if expected is not None and expected != live.version:
                    raise VersionMismatch(f"the session is at version {live.version}, not {expected}")
                enabled = frozenset({"create", "update", "delete", "scratchpad"})
                memory = Memory(live.store, lambda entry_id: entry_id, "chunk", enabled)
                record = apply(edit, vector, memory)
                _check_applied(record.outcome, edit)
                body = {"operations": [operation_view(record).model_dump()]}
                unit = Unit(self._parts, repository, session_id, live)
                return await unit.commit(Work("edit", live.store, live.query, body=body))

    async def search(self, tenant: str, session_id: str, query: str, k: int) -> SearchResult:
        """The entries most similar to a text. Raises NotFound, TooLarge, Unavailable."""
        repository = self._repository(tenant)
        with refusals():
            self._check_length(query, self._config.limits.question_tokens, "the query")
            vector = (await self._embedder.embed([query], "query"))[0]
            async with self.live.hold(repository, session_id) as live:
                found = live.store.search(vector, k)
                version = live.version
            rows = await repository.entries_by_id(session_id, [entry.entry_id for entry in found])
            kept: list[Entry] = [
                entry_view(rows[entry.entry_id], entry.score) for entry in found if entry.entry_id in rows
            ]
            return SearchResult(version=version, entries=kept)

    async def start(self, tenant: str, session_id: str) -> None:
        """Read what the session has not read yet, in the background; returns at once."""
        self.background.start(self._repository(tenant), session_id)

    async def forget(self, session_id: str) -> None:
        """Drop a deleted session from memory."""
        self.live.forget(session_id)

    def _check_length(self, text: str, limit: int, what: str) -> None:
        if (tokens := len(self._tokenizer.encode(text))) > limit:
            raise TooLarge(f"{what} has {tokens} tokens, the limit is {limit}")


def _answer(commit: Commit) -> Answer:
    shown = {entry.entry_id: entry for step in commit.steps for entry in step.retrieved}
    return Answer(
        question=commit.question or "",
        answer=commit.answer,
        entries=list(shown.values()),
        scratchpad=commit.steps[-1].scratchpad,
        version=commit.version,
        usage=commit.usage,
        model=commit.model or "",
    )


def _check_applied(outcome: str, edit: Edit) -> None:
    if outcome == "discarded":
        raise Conflict("the memory is full: remove an entry, or make the session's capacity larger")
    if outcome != "ok":
        raise NotFound(outcome)
