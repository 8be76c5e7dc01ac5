"""Computes published protocols for scores of variants from a model's logits and vectors, with numpy
alone, and compares them with what crocuta score wrote.

    python protocols.py PRESET TABLE.parquet GENOME.fa MODEL CROCUTA DIRECTORY

CROCUTA runs the model over the protocol's own windows, written to DIRECTORY as FASTA: logits and
vectors of every base, or predictions of masked ones. All that makes scores of them is below. Needs
numpy and pyarrow. Exits 0 if all agree.
"""

import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
BASES = "ACGT"
AFTER = 50
PRESET, TABLE, GENOME, MODEL, CROCUTA, DIRECTORY = sys.argv[1:]
# Where A, C, G and T stand among the model's logits.
TOKENS = [7, 8, 9, 10]


def turned(text):
    return text.translate(COMPLEMENT)[::-1]


def run(sequences, command, column, *options):
    """What the model says of each base of the sequences: arrays (T, numbers)."""
    fasta = pathlib.Path(DIRECTORY) / "windows.fa"
    fasta.write_text("".join(f">{i}\n{text}\n" for i, text in enumerate(sequences)))
    out = fasta.with_suffix(".parquet")
    words = [CROCUTA, command, fasta, "-m", MODEL, "-o", out, "--force", "-q", *options]
    subprocess.run([str(word) for word in words], check=True)
    table = pq.read_table(out, columns=["chrom", *column])
    chrom = np.array(table["chrom"].cast("string").to_pylist())
    columns = []
    for name in column:
        values = table[name].combine_chunks()
        flat = values.flatten() if hasattr(values.type, "list_size") else values
        columns.append(flat.to_numpy(zero_copy_only=False).reshape(len(values), -1))
    values = np.concatenate(columns, axis=1).astype(np.float64)
    return [values[chrom == str(i)] for i in range(len(sequences))]


def logits(sequences):
    return run(sequences, "predict", ["logits"], "--logits")


def vectors(sequences):
    return run(sequences, "embed", ["embedding"], "--dtype", "f32")


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def log_likelihoods(text, rows):
    """log P(base | bases before it) of all tokens, of every base but the first."""
    tokens = [TOKENS[BASES.index(letter)] for letter in text[1:]]
    return log_softmax(rows[:-1])[np.arange(len(tokens)), tokens]


def cosine_distance(a, b):
    return 1 - a @ b / np.sqrt((a @ a) * (b @ b))


def evo2(genome, site, ref, alt):
    """The notebook: 8192 bases, the site at index 4096; the mean of all but the first base."""
    start = max(0, site - 4096)
    window = genome[start : site + 4096]
    at = site - start
    assert window[at] == ref
    texts = [window, window[:at] + alt + window[at + 1 :]]
    means = [log_likelihoods(*pair).mean() for pair in zip(texts, logits(texts))]
    return {"delta_ll_mean": means[1] - means[0]}


def hyenadna(genome, site, ref, alt):
    """The trained length around the site; means of both strands, each of its own reading."""
    start = max(0, site - 64)
    window = genome[start : site + 64]
    at = site - start
    texts = [window, window[:at] + alt + window[at + 1 :]]
    texts += [turned(text) for text in texts]
    means = [log_likelihoods(*pair).mean() for pair in zip(texts, logits(texts))]
    forward, reverse = means[1] - means[0], means[3] - means[2]
    return {"delta_ll_mean": forward, "delta_ll_mean_rc": reverse, "delta_ll_mean_avg": (forward + reverse) / 2}


def gpn(genome, site, ref, alt):
    """512 bases, the site alone masked; the logits' difference, of both strands."""
    start = max(0, site - 256)
    window = genome[start : site + 256]
    at = site - start
    columns = [f"p_{letter}" for letter in BASES]
    options = ["--window", "512", "--mask-every", len(window)]
    forward, reverse = run([window, turned(window)], "predict", columns, *options)
    log = lambda rows, at, letter: np.log(rows[at][BASES.index(letter)])
    there = log(forward, at, alt) - log(forward, at, ref)
    at, alt, ref = len(window) - 1 - at, turned(alt), turned(ref)
    back = log(reverse, at, alt) - log(reverse, at, ref)
    return {"llr": there, "llr_rc": back, "llr_avg": (there + back) / 2}


def bend(genome, site, ref, alt):
    """A causal model: 511 bases before the site, which is the last."""
    before = genome[max(0, site - 511) : site]
    ref, alt = (rows[-1] for rows in vectors([before + ref, before + alt]))
    return {"cos_dist": cosine_distance(ref, alt)}


def lrb(genome, site, ref, alt):
    """Means of 768 bases on either side in windows of 131,072, of both strands."""
    start = max(0, site - 65_536)
    window = genome[start : site + 65_536]
    at = site - start
    texts = [window, window[:at] + alt + window[at + 1 :]]
    texts += [turned(text) for text in texts]
    rows = vectors(texts)
    places = [at, at, len(window) - 1 - at, len(window) - 1 - at]
    means = [rows[max(0, at - 768) : at + 769].mean(axis=0) for rows, at in zip(rows, places)]
    return dict(zip(["ref_emb", "alt_emb", "ref_emb_rc", "alt_emb_rc"], means))


def marin(genome, site, ref, alt):
    """The prefix, each of four bases, the suffix; all of it again on the other strand."""
    found = {}
    for strand, text, at in (("", genome, site), ("_rc", turned(genome), len(genome) - 1 - site)):
        own = (lambda letter: letter) if strand == "" else turned
        prefix, suffix = text[:at], text[at + 1 : at + 1 + AFTER]
        texts = [prefix + own(letter) + suffix for letter in BASES]
        rows = logits(texts)
        # What lies before the site is the same of all.
        sums = [log_likelihoods(*pair)[at - 1 :].sum() for pair in zip(texts, rows)]
        four = log_softmax(np.array(sums))
        for letter, value in zip(BASES, four):
            found[f"site_logp_{letter}{strand}"] = value
        found[f"site_entropy{strand}"] = -(np.exp(four) * four).sum()
        found[f"delta_ll{strand}"] = four[BASES.index(alt)] - four[BASES.index(ref)]
        p, q = (np.exp(log_softmax(rows[BASES.index(x)][at:-1, TOKENS])) for x in (ref, alt))
        entropy = lambda p: -(p * np.log(p)).sum(axis=-1)
        found[f"jsd_mean{strand}"] = (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).mean()
    names = [name for name in found if not name.endswith("_rc")]
    return found | {f"{name}_avg": (found[name] + found[f"{name}_rc"]) / 2 for name in names}


PROTOCOLS = {
    "evo2-brca1": evo2, "hyenadna-llr": hyenadna, "gpn": gpn, "bend": bend, "lrb-embed": lrb, "marin": marin,
}


def main():
    text = pathlib.Path(GENOME).read_text().split(">")[1:]
    genomes = {record.split("\n", 1)[0]: record.split("\n", 1)[1].replace("\n", "") for record in text}
    table = pq.read_table(TABLE)
    compared = 0
    for row in table.to_pylist():
        expected = PROTOCOLS[PRESET](genomes[row["chrom"]], row["pos"] - 1, row["ref"], row["alt"])
        for name, value in expected.items():
            apart = np.abs(np.array(row[name], dtype=np.float64) - value).max()
            size = max(1.0, np.abs(value).max())
            assert apart <= 2e-5 * size, f"{PRESET}: {row['variant_id']}: {name}: {row[name]}, expected {value}"
            compared += 1
    assert compared, "no rows"
    print(f"{PRESET}: {compared} numbers of {table.num_rows} variants agree")


if __name__ == "__main__":
    main()
