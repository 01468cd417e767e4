"""The model's own byte-pair vocabulary in CLIP's file format: vocab.json and merges.txt.

Ids in CLIP's order: 256 byte letters, the same with </w>, the merges, <|startoftext|>,
<|endoftext|>. The merges are learned from the words of the world's captions, each word as often. When
the world has got new words their merges are appended: old tokens keep their ids, the two special ones
move to the end, and denoiser.grow_rows moves a trained model's rows likewise."""

import json
import re

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

import state
from world.captions import MARKS, every_word

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


def pieces(word, ranks):
    """A word's tokens under merges given as {pair: rank}."""
    parts = [*word[:-1], word[-1] + WORD_END]
    while len(parts) > 1:
        pair = min(zip(parts, parts[1:]), key=lambda p: ranks.get(p, len(ranks)))
        if pair not in ranks:
            break
        joined = []
        for part in parts:
            if joined and (joined[-1], part) == pair:
                joined[-1] += part
            else:
                joined.append(part)
        parts = joined
    return parts


def extend(merges, words):
    """The merges with more appended, so that each of these words is one token. What was one token
    stays one: a new merge comes after all old ones."""
    ranks = {m: k for k, m in enumerate(merges)}
    for word in words:
        while len(parts := pieces(word, ranks)) > 1:
            ranks[parts[0], parts[1]] = len(ranks)
    return list(ranks)


def write(merges):
    """Writes tokenizer/ to the state folder."""
    letters = byte_letters()
    words = letters + [c + WORD_END for c in letters] + ["".join(m) for m in merges]
    words = list(dict.fromkeys(words)) + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {w: k for k, w in enumerate(words)}
    folder = state.path("tokenizer", "vocab.json").parent
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT, "errors": "replace",
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}, indent=2))


def load():
    """The tokenizer; written first if it is not there, and extended if the world has new words."""
    folder = state.path("tokenizer", "vocab.json").parent
    if (folder / "tokenizer_config.json").exists():
        lines = (folder / "merges.txt").read_text().splitlines()[1:]
        merges = [tuple(line.split()) for line in lines]
    else:
        merges = learn_merges(byte_letters())
    known = extend(merges, every_word())
    if known != merges or not (folder / "tokenizer_config.json").exists():
        write(known)
    return CLIPTokenizer.from_pretrained(folder)


def encode(tokenizer, captions):
    """Token ids [n, 77], padded as Stable Diffusion pads."""
    return tokenizer(captions, padding="max_length", max_length=CONTEXT, truncation=True,
                     return_tensors="pt").input_ids


def encode_marked(tokenizer, captions):
    """Token ids [n, 77] of marked captions, and owners [n, len(MARKS), 77]: 1 where a token belongs to
    the words of that object (articles do not: they are read before the object is known)."""
    pieces = [re.split(f"([{MARKS}])", text) for text in captions]
    known = iter(tokenizer([p for group in pieces for p in group], add_special_tokens=False).input_ids)
    articles = set(tokenizer("a an the", add_special_tokens=False).input_ids)
    ids = torch.full((len(captions), CONTEXT), tokenizer.eos_token_id)
    owners = torch.zeros(len(captions), len(MARKS), CONTEXT)
    for row, group in enumerate(pieces):
        tokens, owner, owned = [tokenizer.bos_token_id], None, []
        for piece in group:
            if piece and piece in MARKS:
                next(known)
                owner = None if owner is not None else MARKS.index(piece)
                continue
            new = next(known)
            if owner is not None:
                owned += [(owner, len(tokens) + k) for k, t in enumerate(new) if t not in articles]
            tokens += new
        tokens = tokens[:CONTEXT - 1]
        ids[row, :len(tokens)] = torch.tensor(tokens)
        for k, at in owned:
            if at < CONTEXT - 1:
                owners[row, k, at] = 1
    return ids, owners
