"""Tokenizers for tests: the mini models' own, and GPT-2's where it can be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from circuitmeter.tasks.mini import vocabulary
from circuitmeter.tasks.tokenizer import Tokenizer

GPT2 = "CIRCUITMETER_GPT2_TOKENIZER"  # a folder with GPT-2's vocab.json and merges.txt


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    """The mini models' tokenizer."""
    return Tokenizer(vocabulary.build_tokenizer())


@pytest.fixture(scope="session")
def gpt2() -> Tokenizer:
    """GPT-2's byte-pair tokenizer, from the folder in CIRCUITMETER_GPT2_TOKENIZER or the Hugging Face cache."""
    folder = _gpt2_folder()
    if folder is None:
        pytest.skip(f"no GPT-2 vocabulary: set {GPT2} to a folder with vocab.json and merges.txt")
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    inner = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    end = "<|endoftext|>"
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, **special))


def _gpt2_folder() -> Path | None:
    if os.environ.get(GPT2):
        return Path(os.environ[GPT2])
    from huggingface_hub import try_to_load_from_cache

    files = [try_to_load_from_cache("gpt2", name) for name in ("vocab.json", "merges.txt")]
    return Path(files[0]).parent if all(isinstance(file, str) for file in files) else None
