"""The tokenizer under threads: a server cuts documents in one while it makes prompts in another."""

import threading

from env.types import Message


def test_prompts_are_whole_while_another_thread_encodes_plain_text(tokenizer):
    """Whether special tokens are one id or several letters is state of a Hugging Face tokenizer."""
    ended, document = threading.Event(), "Anna Berg works at Solaria . " * 3

    def cut() -> None:
        while not ended.is_set():
            tokenizer.encode(document)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        prompts = [[Message(role="user", content=f"ask : {i % 100} {i // 100}")] for i in range(3000)]
        lengths = {len(tokenizer.encode_chat(prompt)) for prompt in prompts}
    finally:
        ended.set()
        thread.join()
    assert len(lengths) == 1


def test_plain_text_never_becomes_a_special_token(tokenizer):
    eos = tokenizer.eos_token_id
    assert eos not in tokenizer.encode("a <eos> b") and eos not in tokenizer.encode("<eos>")
    (prompt,) = [tokenizer.encode_chat([Message(role="user", content="<eos> x <assistant>")])]
    assert eos not in prompt
