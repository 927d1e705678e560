"""`/v1/chat/completions` as OpenAI's clients speak it. Fields that do not apply here are taken and have no effect."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cluster.serving.schemas import NO_NUL, Usage


class ChatBody(BaseModel):
    """Base of what clients send: fields that do not apply are ignored, values of another JSON type are refused."""

    model_config = ConfigDict(extra="ignore", strict=True)


class TextPart(ChatBody):
    """A part of a message's content; only text can be read."""

    type: Literal["text"]
    text: Annotated[str, StringConstraints(pattern=NO_NUL)]


class ChatMessage(ChatBody):
    """A message. System and developer messages are not used: the policy has instructions of its own."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, StringConstraints(pattern=NO_NUL)] | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(ChatBody):
    """OpenAI's stream options."""

    include_usage: bool = False


class ChatRequest(ChatBody):
    """The last message is the question; those before it are read into memory once, as turns of a conversation.

    The session is named by the header `X-Session-Id` (its id), or by `user` (a name; made when there is none). With
    neither, the session lasts for this request only.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "atommem", "messages": [{"role": "user", "content": "Where does Anna Berg work?"}]}]
        },
    )
    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    user: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None


class ChatChoiceMessage(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """The one choice."""

    index: int = 0
    message: ChatChoiceMessage
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatCompletion(BaseModel):
    """A completion. `memory` is ours: session, version and the entries that the answer used."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    memory: dict[str, Any]


class ChatChunk(BaseModel):
    """One event of a streamed completion."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage | None = None
