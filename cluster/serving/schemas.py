"""The API's requests, answers, events and errors. OpenAPI is made of these.

A session's `version` counts its commits: every chunk read, question answered, and edit by hand is one commit, in one
transaction. It orders the log, names past states, and is the entity tag (`If-Match`) of edits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from env.config import OperationName

NO_NUL = r"^[^\x00]*$"  # PostgreSQL takes no NUL in a text
Line = Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=NO_NUL)]
DocumentState = Literal["pending", "done", "cancelled", "failed"]


class Body(BaseModel):
    """Base of request bodies: unknown fields are refused, and values of another JSON type than the schema's (true is
    no integer); surrogates cannot come in (JSON is UTF-8)."""

    model_config = ConfigDict(extra="forbid", strict=True)


# -- sessions ----------------------------------------------------------------------------------------------------------


class SessionOptions(Body):
    """How the session's agent works; None means the server's setting, which is the one of training."""

    top_k: int | None = Field(None, ge=1, le=100, description="entries that a Read shows")
    capacity: int | None = Field(None, ge=1, le=2**31 - 1, description="entries that the memory holds")
    operations: list[OperationName] | None = Field(None, description="operations that the agent may use")
    prompt: str | None = Field(None, max_length=100, description="one of the server's prompts")
    focus: list[Annotated[Text, StringConstraints(max_length=1000)]] = Field(
        [], max_length=20, description="standing questions that the agent keeps in view while it reads"
    )


class SessionCreate(Body):
    """A new session."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "report", "options": {"focus": ["Where does Anna Berg work?"]}}]},
    )
    name: Line = ""
    options: SessionOptions = SessionOptions()


class SessionFork(Body):
    """A copy of a session under a new id, with its memory, log and documents."""

    name: Line | None = Field(None, description="None: the original's")


class Session(BaseModel):
    """A session as it is now."""

    id: str
    name: str
    options: SessionOptions
    version: int = Field(description="commits so far; names this state of the memory")
    entries: int
    documents: int
    forked_from: str | None = None
    created_at: datetime
    updated_at: datetime


class SessionList(BaseModel):
    """Newest first; `next` is the `after` of the next page."""

    items: list[Session]
    next: str | None = None


# -- documents ---------------------------------------------------------------------------------------------------------


class DocumentCreate(Body):
    """A text as JSON. Any other content type than application/json is taken as the UTF-8 text itself."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Anna Berg works at Solaria .", "title": "report"}]}
    )
    text: Text
    title: Line = ""
    role: Literal["user", "assistant"] | None = Field(None, description="set: the text is this speaker's turn")


class Document(BaseModel):
    """A text and how far it has been read. Documents are read in order of their number."""

    number: int = Field(description="1, 2, 3 ... within the session")
    title: str
    state: DocumentState = Field(description="pending: being read, waiting, or interrupted; it goes on when asked")
    error: str | None = Field(None, description="why it failed; `resume` tries again")
    background: bool = Field(description="read by the server whether or not a client listens")
    tokens: int
    chunks: int
    read: int = Field(description="chunks read and committed; the next one to read has this index")
    created_at: datetime


class Chunk(BaseModel):
    """The text that the agent was shown at one step."""

    document: int
    chunk: int
    text: str


class DocumentList(BaseModel):
    """In order of number."""

    items: list[Document]


# -- what happened -----------------------------------------------------------------------------------------------------


class Source(BaseModel):
    """The chunk an entry was written at (both None: by hand, or while answering)."""

    document: int | None = None
    chunk: int | None = None


class Operation(BaseModel):
    """One operation and what became of it."""

    kind: str = Field(description="create, read, update, delete, scratchpad, answer, or invalid")
    text: str = Field(description="content, query or answer")
    entry_id: int | None = None
    outcome: str = Field("ok", description="ok, discarded (the memory is full), or why it is invalid")


class ShownEntry(BaseModel):
    """An entry as the agent was shown it."""

    entry_id: int
    content: str
    source: Source = Source()


class Step(BaseModel):
    """One turn of the policy: what it was shown besides the chunk or question, what it wrote, what was applied."""

    query: str | None
    retrieved: list[ShownEntry]
    scratchpad: str
    output: str
    operations: list[Operation]


class Usage(BaseModel):
    """Tokens of the policy, over all its turns."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Commit(BaseModel):
    """One line of the log: all that happened from state `version - 1` to state `version`."""

    version: int
    kind: Literal["chunk", "question", "edit"]
    document: int | None = None
    chunk: int | None = None
    question: str | None = None
    answer: str | None = None
    steps: list[Step] = []
    operations: list[Operation] = Field(description="of all steps; for an edit, the user's own")
    usage: Usage = Usage()
    model: str | None = Field(None, description="name and version of the policy that acted; None: the user did")
    entries: int = Field(description="in the memory afterwards")
    created_at: datetime


class Log(BaseModel):
    """In order of version; `next` is the `after` of the next page."""

    items: list[Commit]
    next: int | None = None


# -- questions ---------------------------------------------------------------------------------------------------------


class QuestionCreate(Body):
    """A question for the session's agent."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"question": "Where does Anna Berg work?"}]}
    )
    question: Text
    stream: bool = Field(False, description="answer with events instead of one object")


class Answer(BaseModel):
    """An answer with what it rests on."""

    question: str
    answer: str | None = Field(description="None: the agent gave none within its reads")
    entries: list[ShownEntry] = Field(description="entries that the agent was shown before it answered")
    scratchpad: str = Field(description="as the agent was shown it")
    version: int = Field(description="of the session, after this question")
    usage: Usage
    model: str


# -- memory ------------------------------------------------------------------------------------------------------------


class Entry(BaseModel):
    """A memory entry. `version` is the commit that wrote its present content."""

    entry_id: int
    content: str
    source: Source
    version: int
    score: float | None = Field(None, description="cosine similarity to the query, in a search")


class Memory(BaseModel):
    """The memory now, or as it was at a past version."""

    version: int
    scratchpad: str
    entries: list[Entry]
    next: int | None = Field(None, description="the `after` of the next page")


class SearchResult(BaseModel):
    """Best first."""

    version: int
    entries: list[Entry]


class EntryWrite(Body):
    """Content of an entry, written by hand."""

    content: Text


class ScratchpadWrite(Body):
    """The whole scratchpad, written by hand; empty clears it."""

    content: Annotated[str, StringConstraints(pattern=NO_NUL)]


# -- models and health -------------------------------------------------------------------------------------------------


class ModelCard(BaseModel):
    """One model, as OpenAI lists it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "atommem"
    version: int = Field(description="counts the checkpoints that were deployed")
    checkpoint: str


class ModelList(BaseModel):
    """The models one can name."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class DeploymentCreate(Body):
    """A checkpoint to serve from now on."""

    checkpoint: Text


class Deployment(BaseModel):
    """A checkpoint on its way to the engines. A refused one leaves the one before it serving."""

    version: int
    checkpoint: str
    state: Literal["pending", "active", "refused", "replaced"]
    reason: str | None = None
    created_at: datetime


class Health(BaseModel):
    """Parts that a request needs and whether each answers."""

    status: Literal["ok", "unavailable"]
    parts: dict[str, str] = {}


class Problem(BaseModel):
    """An error, RFC 9457 (application/problem+json). `error` is there for OpenAI's clients."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = Field(None, description="which fields of the request are wrong")
    error: dict[str, Any] | None = None


# -- events (text/event-stream) ----------------------------------------------------------------------------------------


class DocumentEvents(BaseModel):
    """The events of reading a document, by their `event:` name. `id:` is the session's version where there is one.

    document: first; the document as it was found. chunk: one chunk is read and committed (its operations, tokens);
    progress follows from `chunk.chunk + 1` of `document.chunks`. document: last; `state` done or cancelled.
    error: a problem; the document is resumable.
    """

    document: Document
    chunk: Commit
    error: Problem


class Reading(BaseModel):
    """The agent looks something up before it answers."""

    query: str
    entries: list[ShownEntry]


class QuestionEvents(BaseModel):
    """The events of a streamed question: reading (any number), then answer (committed), or error."""

    reading: Reading
    answer: Answer
    error: Problem
