"""Byte-level BPE from a GGUF: against the tokenizers library's own trainer output, a hand-written BPE, and hand-checked
word splits."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import tokenizers
from gguf import GGUFValueType
from gguf_build import CONTROL, NORMAL, UNUSED, USER_DEFINED, Typed, write_gguf
from hypothesis import example, given
from hypothesis import strategies as st
from texts import mixed_text, random_bytes
from tokenizers import decoders, models, pre_tokenizers, trainers

from rwkvnative.errors import FileError, InputError
from rwkvnative.gguf_file import GgufFile
from rwkvnative.tokenizer import BpeTokenizer, Tokenizer, tokenizer_from_gguf
from rwkvnative.vocabulary import BYTE_TO_CHAR

# As in Qwen2's tokenizer.json, typed in here a second time on purpose.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

EXTRA = [
    ("<|endoftext|>", CONTROL),
    ("<|im_start|>", CONTROL),
    ("<|im_end|>", CONTROL),
    ("<tool>", USER_DEFINED),
    ("[PAD9]", UNUSED),
]


class Trained:
    """A vocabulary of about 1500 tokens trained by the tokenizers library on our mixed text."""

    def __init__(self) -> None:
        self.reference = tokenizers.Tokenizer(models.BPE())
        self.reference.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(QWEN2), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self.reference.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        self.reference.train_from_iterator([mixed_text(random.Random(i), 5_000) for i in range(20)], trainer)
        model = json.loads(self.reference.to_str())["model"]
        self.tokens: list[str] = sorted(model["vocab"], key=model["vocab"].__getitem__)
        self.merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]  # the library's two spellings
        self.types = [NORMAL] * len(self.tokens) + [kind for _, kind in EXTRA]
        self.first_extra = len(self.tokens)
        self.tokens += [name for name, _ in EXTRA]

    def keys(self) -> dict[str, Typed]:
        return {
            "tokenizer.ggml.model": ("gpt2", GGUFValueType.STRING),
            "tokenizer.ggml.pre": ("qwen2", GGUFValueType.STRING),
            "tokenizer.ggml.tokens": (self.tokens, GGUFValueType.ARRAY),
            "tokenizer.ggml.token_type": (self.types, GGUFValueType.ARRAY),
            "tokenizer.ggml.merges": (self.merges, GGUFValueType.ARRAY),
            "tokenizer.ggml.eos_token_id": (self.first_extra, GGUFValueType.UINT32),
        }

    def merge_word(self, word: bytes) -> list[int]:
        """BPE as it is defined: while any neighbours can merge, merge the pair of the lowest rank, leftmost first."""
        ranks = {tuple(m.split(" ")): rank for rank, m in enumerate(self.merges)}
        parts = [chr(BYTE_TO_CHAR.get(b, b)) for b in word]
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), 1 << 30))
            if (parts[best], parts[best + 1]) not in ranks:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return [self.tokens.index(p) for p in parts]


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained()


def load(path: Path, keys: dict[str, Typed]) -> Tokenizer:
    with GgufFile(write_gguf(path, keys, arch="arwkv7")) as gguf:
        return tokenizer_from_gguf(gguf)


@pytest.fixture(scope="module")
def bpe(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> BpeTokenizer:
    tokenizer = load(tmp_path_factory.mktemp("bpe") / "bpe.gguf", trained.keys())
    assert isinstance(tokenizer, BpeTokenizer)
    return tokenizer


@pytest.mark.parametrize("seed", [100, 101])
def test_equals_the_library_that_trained_it(bpe: BpeTokenizer, trained: Trained, seed: int) -> None:
    text = mixed_text(random.Random(seed), 50_000).replace("<tool>", "")
    ids = bpe.encode(text)
    assert ids == trained.reference.encode(text, add_special_tokens=False).ids
    assert bpe.decode(ids) == text == trained.reference.decode(ids)


@pytest.mark.parametrize(
    "text, words",
    [
        ("Hello world", ["Hello", " world"]),
        ("I'll can't THEY'RE", ["I", "'ll", " can", "'t", " THEY", "'RE"]),
        ("in 2026: 3.14", ["in", " ", "2", "0", "2", "6", ":", " ", "3", ".", "1", "4"]),
        ("a  b   c", ["a", " ", " b", "  ", " c"]),
        ("x\n\n  y\r\nz", ["x", "\n\n", " ", " y", "\r\n", "z"]),
        ("f(x); \n", ["f", "(x", ");", " \n"]),
        ("!!!\n\nnext", ["!!!\n\n", "next"]),
        ("你好，世界", ["你好", "，世界"]),
        (" 😀 ok  ", [" 😀", " ok", "  "]),
        ("_name $var", ["_name", " $", "var"]),
    ],
)
def test_words_are_cut_as_qwen2_does_and_merged_by_rank(
    bpe: BpeTokenizer, trained: Trained, text: str, words: list[str]
) -> None:
    assert "".join(words) == text
    assert bpe.encode(text) == [id for word in words for id in trained.merge_word(word.encode())]


@given(text=st.text())
@example("")
@example("e\u0301 is not composed, Å (angstrom) not replaced")
def test_text_round_trip(bpe: BpeTokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text), special=True) == text


@given(data=st.binary(max_size=120))
@example(b"\xe4\xbd\xa0\xff\xe4\xbd" + "é".encode())
def test_bytes_round_trip(bpe: BpeTokenizer, data: bytes) -> None:
    ids = bpe.encode(data)
    assert bpe.decode_bytes(ids) == data
    decoder = bpe.stream_decoder()
    assert "".join(map(decoder.push, ids)) + decoder.flush() == data.decode("utf-8", "replace")


def test_noise_round_trip(bpe: BpeTokenizer) -> None:
    data = random_bytes(random.Random(3), 50_000)
    assert bpe.decode_bytes(bpe.encode(data), special=True) == data


def test_special_tokens(bpe: BpeTokenizer, trained: Trained) -> None:
    eos, start, end, tool, pad = range(trained.first_extra, trained.first_extra + 5)
    assert (bpe.bos_id, bpe.eos_id, bpe.eot_id) == (None, eos, end)
    text = "<|im_start|>a<tool>b<|im_end|>[PAD9]"
    plain = bpe.encode(text)
    assert not {start, end, pad} & set(plain) and tool in plain and bpe.decode(plain) == text
    ids = bpe.encode(text, allow_special=True)
    assert ids == [start, *bpe.encode("a"), tool, *bpe.encode("b"), end, pad]
    assert bpe.decode(ids) == "a<tool>b" and bpe.decode(ids, special=True) == text
    assert bpe.token_bytes(start) == b"<|im_start|>"


def test_a_vocabulary_that_misses_bytes(trained: Trained, tmp_path: Path) -> None:
    missing = trained.tokens.index("z")
    kept = [m for m in trained.merges if "z" not in m]
    keys = trained.keys() | {
        "tokenizer.ggml.tokens": (
            ["[gone]" if i == missing else t for i, t in enumerate(trained.tokens)],
            GGUFValueType.ARRAY,
        ),
        "tokenizer.ggml.merges": (kept, GGUFValueType.ARRAY),
    }
    tokenizer = load(tmp_path / "z.gguf", keys)
    assert tokenizer.decode(tokenizer.encode("no such letter")) == "no such letter"
    with pytest.raises(InputError, match="no token for byte value 0x7A, at byte 4 of the text"):
        tokenizer.encode("ja ez")


_ARRAY, _STRING = GGUFValueType.ARRAY, GGUFValueType.STRING


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (
            {"tokenizer.ggml.pre": ("llama-bpe", _STRING)},
            "expected one of 'qwen2', 'deepseek-r1-qwen', got 'llama-bpe'",
        ),
        ({"tokenizer.ggml.pre": None}, "'tokenizer.ggml.pre' is missing"),
        ({"tokenizer.ggml.merges": None}, "'tokenizer.ggml.merges' is missing"),
        ({"tokenizer.ggml.merges": (["a b c"], _ARRAY)}, "merge 0 'a b c' is not two tokens"),
        ({"tokenizer.ggml.merges": (["nospace"], _ARRAY)}, "merge 0 'nospace' is not two tokens"),
        ({"tokenizer.ggml.merges": (["a 好"], _ARRAY)}, "merge 0 .* is not two tokens"),
        ({"tokenizer.ggml.merges": (["! !", "~ \u0100"], _ARRAY)}, "merge . .* is not two tokens"),
        (
            {"tokenizer.ggml.tokens": (["a", "好"], _ARRAY), "tokenizer.ggml.token_type": None},
            "token 1 .* GPT-2's byte alphabet",
        ),
    ],
)
def test_bad_vocabularies(trained: Trained, tmp_path: Path, overrides: dict[str, Typed | None], sentence: str) -> None:
    keys = {key: value for key, value in (trained.keys() | overrides).items() if value is not None}
    with pytest.raises(FileError, match=sentence):
        load(tmp_path / "bad.gguf", keys)
