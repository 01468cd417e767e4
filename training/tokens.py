"""The model's own byte-pair vocabulary in CLIP's file format: vocab.json and merges.txt.

Ids in CLIP's order: 256 byte letters, the same with </w>, the merges, <|startoftext|>,
<|endoftext|>. The merges are learned from the words of the world's captions, each word as often."""

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

import state
from world.captions import every_word

WORD_END = "</w>"
CONTEXT = 77


def byte_letters():
    """The printable letter CLIP (as GPT-2) writes for each byte, in CLIP's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    order = plain + [b for b in range(256) if b not in letters]
    for n, b in enumerate(order[len(plain):]):
        letters[b] = chr(256 + n)
    return [letters[b] for b in order]


def learn_merges(letters):
    """Merges until each word of the world is one token."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(every_word() * 3, trainers.BpeTrainer(
        vocab_size=2000, min_frequency=2, end_of_word_suffix=WORD_END, show_progress=False,
        initial_alphabet=letters))
    return [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]


def write():
    """Writes tokenizer/ to the state folder."""
    letters = byte_letters()
    merges = learn_merges(letters)
    words = letters + [c + WORD_END for c in letters] + ["".join(m) for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {w: k for k, w in enumerate(words)}
    if len(vocab) != len(words):
        raise ValueError("two merges make the same token")
    folder = state.path("tokenizer", "vocab.json").parent
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT, "errors": "replace",
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}, indent=2))
    return folder


def load():
    """The tokenizer, written first if it is not there."""
    folder = state.path("tokenizer", "vocab.json").parent
    if not (folder / "tokenizer_config.json").exists():
        write()
    return CLIPTokenizer.from_pretrained(folder)


def encode(tokenizer, captions):
    """Token ids [n, 77], padded as Stable Diffusion pads."""
    return tokenizer(captions, padding="max_length", max_length=CONTEXT, truncation=True,
                     return_tensors="pt").input_ids
