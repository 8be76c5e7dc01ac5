#!/usr/bin/env python3
"""Makes tests/goldens/pretrained: small random models of the classes of published Transformers, as
the library transformers saves them, and its outputs on a short sequence.

    pip install torch transformers tokenizers safetensors numpy
    tests/goldens/pretrained.py

MosaicBERT (DNABERT-2) is not in that library: its equations are written out below, after Portes et
al. 2023, arXiv:2312.17482, and Press et al. 2021, arXiv:2108.12409.

expected.safetensors of each: `sequence` (ASCII), `ids` of the tokens, `hidden` (tokens, D), `of_bases`
(the place of each base's token), and `bases` (bases, 5): logarithms of the probabilities of A, C, G, T
and all else, of the next base, or of the base itself where the model reads both sides, worked out of
the logits in float64 by plain sums over all tokens.
"""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers as tf
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "pretrained"
SEQUENCE = "ACGTTGCANNGATTACAGATTACATGCCGTAACGGTACCATGNACGTTTGACCAGTACCGATAGGCATTAGCACCGGTA"
NEVER = -80.0


def byte_pairs(special):
    """A tokenizer of byte pairs, as GenomeOcean and DNABERT-2 have."""
    random = np.random.default_rng(1)
    text = ["".join(random.choice(list("ACGT"), 400, p=[0.4, 0.2, 0.1, 0.3])) for _ in range(40)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=special[0]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=60, special_tokens=special, show_progress=False, initial_alphabet=list("ACGT")
    )
    tokenizer.train_from_iterator(text, trainer)
    first, last = special[1], special[2]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (first, last)],
    )
    return tokenizer


def single_bases():
    """A token a base, behind one that begins the sequence, as MarinDNA has."""
    names = ["<unk>", "<bos>", "a", "c", "g", "t", "n"]
    model = tokenizers.models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    return tokenizer


def by_library(tokenizer, folder):
    """Tokens, their bases, and the text of each id."""
    tokenizer.save(str(folder / "tokenizer.json"))
    found = tokenizer.encode(SEQUENCE)
    special = found.special_tokens_mask
    spans = [(a, a) if s else (a, b) for (a, b), s in zip(found.offsets, special)]
    texts = {i: name.upper() for name, i in tokenizer.get_vocab().items()}
    return found.ids, spans, {i: t for i, t in texts.items() if set(t) <= set("ACGT")}


def by_kmers(names, step, k, folder):
    """k-mers: one behind the other, as GENERator reads them, or one at each base, as DNABERT does."""
    (folder / "vocab.txt").write_text("".join(name + "\n" for name in names))
    (before, after, unknown) = [
        next(names.index(name) for name in known if name in names)
        for known in (["[CLS]", "<s>"], ["[SEP]", "</s>"], ["[UNK]", "<oov>"])
    ]
    end = len(SEQUENCE) - k + 1 if step == 1 else len(SEQUENCE)
    spans = [(i, min(i + k, len(SEQUENCE))) for i in range(0, end, step)]
    ids = [names.index(SEQUENCE[a:b]) if SEQUENCE[a:b] in names else unknown for a, b in spans]
    n = len(SEQUENCE)
    texts = {i: name for i, name in enumerate(names) if set(name) <= set("ACGT")}
    return [before, *ids, after], [(0, 0), *spans, (n, n)], texts


def of_bases(spans):
    """The last token that begins at a base or before it."""
    place = lambda base: max(i for i, (a, b) in enumerate(spans) if a < b and a <= base)
    return [place(base) for base in range(len(SEQUENCE))]


def mass(p, texts, prefix):
    return sum(p[i] for i, text in texts.items() if text.startswith(prefix))


def logs(four):
    with np.errstate(divide="ignore"):
        rest = 1 - np.sum(four)
        rest = np.log(rest if rest >= 1e-12 else 0.0)
        return np.maximum(np.append(np.log(four), rest), NEVER)


def next_bases(p, ids, spans, texts):
    """P(next base) after each base, of a model that reads in one direction."""
    places = of_bases(spans)

    def at(place, prefix):
        if place == 0:
            return logs(np.full(4, 0.25))
        before, all_, factor = p[place - 1], 1.0, 1.0
        if prefix:
            all_ = mass(before, texts, prefix)
        elif place > 1 and ids[place - 1] in texts:
            own = texts[ids[place - 1]]
            factor = p[place - 2][ids[place - 1]] / mass(p[place - 2], texts, own)
        if all_ == 0:
            return logs(np.full(4, 0.25))
        return logs(np.array([factor * mass(before, texts, prefix + b) / all_ for b in "ACGT"]))

    rows = []
    for base in range(1, len(SEQUENCE)):
        start = spans[places[base]][0]
        rows.append(at(places[base], SEQUENCE[start:base]))
    rows.append(at(places[-1] + 1, ""))
    return np.array(rows)


def own_bases(p, ids, spans, texts):
    """P(base) by all tokens that cover it, of a model that reads both sides."""
    rows = []
    for base in range(len(SEQUENCE)):
        said = []
        for row, (a, b) in zip(p, spans):
            if a <= base < b:
                at = lambda letter: sum(
                    row[i] for i, t in texts.items() if len(t) > base - a and t[base - a] == letter
                )
                said.append([at(letter) for letter in "ACGT"])
        rows.append(logs(np.mean(said, axis=0)))
    return np.array(rows)


class Mosaic(torch.nn.Module):
    """MosaicBERT: attention with a linear bias for the distance, and gated feed-forward layers."""

    def __init__(self, tokens, width, heads, inner, layers):
        super().__init__()
        nn, self.heads = torch.nn, heads
        embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(tokens, width),
                "token_type_embeddings": nn.Embedding(2, width),
                "LayerNorm": nn.LayerNorm(width, 1e-12),
            }
        )
        norm = lambda: nn.LayerNorm(width, 1e-12)
        layer = lambda: nn.ModuleDict(
            {
                "attention": nn.ModuleDict(
                    {
                        "self": nn.ModuleDict({"Wqkv": nn.Linear(width, 3 * width)}),
                        "output": nn.ModuleDict(
                            {"dense": nn.Linear(width, width), "LayerNorm": norm()}
                        ),
                    }
                ),
                "mlp": nn.ModuleDict(
                    {
                        "gated_layers": nn.Linear(width, 2 * inner, bias=False),
                        "wo": nn.Linear(inner, width),
                        "layernorm": norm(),
                    }
                ),
            }
        )
        encoder = nn.ModuleDict({"layer": nn.ModuleList([layer() for _ in range(layers)])})
        self.bert = nn.ModuleDict({"embeddings": embeddings, "encoder": encoder})
        transform = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": norm()})
        predictions = nn.ModuleDict({"transform": transform, "decoder": nn.Linear(width, tokens)})
        self.cls = nn.ModuleDict({"predictions": predictions})

    def forward(self, ids):
        gelu, bert = torch.nn.functional.gelu, self.bert
        embeddings = bert["embeddings"]
        types = embeddings["token_type_embeddings"](torch.zeros_like(ids))
        x = embeddings["LayerNorm"](embeddings["word_embeddings"](ids) + types)
        n, d = x.shape
        slopes = torch.tensor([2.0 ** (-8.0 * (h + 1) / self.heads) for h in range(self.heads)])
        places = torch.arange(n)
        bias = -(places[None, :] - places[:, None]).abs()[None] * slopes[:, None, None]
        for layer in bert["encoder"]["layer"]:
            own, out = layer["attention"]["self"], layer["attention"]["output"]
            q, k, v = own["Wqkv"](x).view(n, 3, self.heads, -1).permute(1, 2, 0, 3)
            scores = q @ k.transpose(1, 2) / (d / self.heads) ** 0.5 + bias
            y = (scores.softmax(-1) @ v).transpose(0, 1).reshape(n, d)
            x = out["LayerNorm"](out["dense"](y) + x)
            mlp = layer["mlp"]
            gated, plain = mlp["gated_layers"](x).chunk(2, -1)
            x = mlp["layernorm"](mlp["wo"](gelu(gated) * plain) + x)
        head = self.cls["predictions"]
        y = head["transform"]["LayerNorm"](gelu(head["transform"]["dense"](x)))
        return x, head["decoder"](y)


def randomise(model):
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.copy_(torch.randn_like(parameter) * 0.3 + centre)


def save(folder, ids, spans, texts, hidden, logits, causal):
    p = torch.softmax(logits.double(), -1).numpy()
    bases = (next_bases if causal else own_bases)(p, ids, spans, texts)
    expected = {
        "sequence": np.frombuffer(SEQUENCE.encode(), dtype=np.uint8),
        "ids": np.array(ids, dtype=np.uint32),
        "of_bases": np.array(of_bases(spans), dtype=np.uint32),
        "hidden": hidden.numpy().astype(np.float32),
        "bases": bases.astype(np.float32),
    }
    save_file(expected, folder / "expected.safetensors")


def published(name, config, split, causal=True):
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids, spans, texts = split(folder)
    config.vocab_size = max(max(texts), max(ids)) + 3
    config.architectures = None
    auto = tf.AutoModelForCausalLM if causal else tf.AutoModelForMaskedLM
    model = auto.from_config(config, attn_implementation="eager").eval()
    randomise(model)
    model.tie_weights()
    model.save_pretrained(folder)
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_hidden_states=True)
    save(folder, ids, spans, texts, out.hidden_states[-1][0], out.logits[0], causal)
    for extra in folder.glob("generation_config.json"):
        extra.unlink()


def main():
    kmers = ["".join(word) for word in itertools.product("ATCG", repeat=3)]
    generator = ["<oov>", "<s>", "</s>", "<pad>", "<mask>", "<+>", *kmers]
    dnabert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *kmers]
    ocean = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    pairs = lambda folder: by_library(byte_pairs(ocean), folder)
    sizes = dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5,
    )
    published(
        "llama",
        tf.LlamaConfig(**sizes, rope_theta=500000.0, tie_word_embeddings=False),
        lambda folder: by_kmers(generator, 3, 3, folder),
    )
    published("mistral", tf.MistralConfig(**sizes, sliding_window=None), pairs)
    published("mixtral", tf.MixtralConfig(**sizes, num_local_experts=4, sliding_window=None), pairs)
    published("qwen2", tf.Qwen2Config(**sizes, tie_word_embeddings=True), pairs)
    published(
        "qwen3",
        tf.Qwen3Config(**sizes, head_dim=12, tie_word_embeddings=False),
        lambda folder: by_library(single_bases(), folder),
    )
    published(
        "bert",
        tf.BertConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=128,
        ),
        lambda folder: by_kmers(dnabert, 1, 3, folder),
        causal=False,
    )
    folder = FOLDER / "mosaic-bert"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids, spans, texts = by_library(byte_pairs(ocean), folder)
    tokens = max(max(texts), max(ids)) + 3
    model = Mosaic(tokens, width=32, heads=4, inner=40, layers=2).eval()
    randomise(model)
    config = dict(
        model_type="bert", vocab_size=tokens, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=40, max_position_embeddings=128,
        alibi_starting_size=128, layer_norm_eps=1e-12, type_vocab_size=2, hidden_act="gelu",
    )
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: x.numpy() for name, x in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with torch.no_grad():
        hidden, logits = model(torch.tensor(ids))
    save(folder, ids, spans, texts, hidden, logits, causal=False)


if __name__ == "__main__":
    main()
