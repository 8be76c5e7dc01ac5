#!/usr/bin/env python3
"""Bits per base of interpolated k-mer Markov models: the yardstick for a language model.

    kmer.py --train a.fa.gz [b.fa.gz ...] --test c.fa.gz:FROM-TO [--max-order 12]

Trains on both strands of everything but the tested range (1-based, end included), and tests the
forward strand of it. P_k(b | last k bases) = (n(context, b) + w P_{k-1}(b | ...)) / (n(context) + w),
P_{-1} = 1/4, with the w of 1 to 64 that is best for each order.
"""
import argparse, gzip
import numpy as np

CODE = np.full(256, 4, np.uint8)
for i, c in enumerate(b"ACGT"):
    CODE[c] = CODE[c + 32] = i


def contigs(path):
    name, parts = None, []
    for line in (gzip.open if path.endswith(".gz") else open)(path, "rb"):
        if line.startswith(b">"):
            if parts:
                yield name, CODE[np.frombuffer(b"".join(parts), np.uint8)]
            name, parts = line[1:].split()[0].decode(), []
        else:
            parts.append(line.strip())
    yield name, CODE[np.frombuffer(b"".join(parts), np.uint8)]


def contexts(x, k):
    """The number of the k bases before each base from k on, and which of these windows are known."""
    n = len(x) - k
    number, known = np.zeros(n, np.int64), x[k:] < 4
    for j in range(k):
        number = number * 4 + x[j : j + n]
        known = known & (x[j : j + n] < 4)
    return number, known


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--max-order", type=int, default=12)
    args = parser.parse_args()
    file, _, span = args.test.rpartition(":")
    first, last = (int(x) for x in span.split("-"))
    test = next(contigs(file))[1][first - 1 : last]
    train = []
    for path in args.train:
        for i, (_, x) in enumerate(contigs(path)):
            train += [x[: first - 1], x[last:]] if path == file and i == 0 else [x]
    train += [np.where(x < 4, 3 - x, 4)[::-1].astype(np.uint8) for x in train]
    p = np.full((len(test), 4), 0.25)
    for k in range(args.max_order + 1):
        counts = np.zeros(4 ** (k + 1), np.int64)
        for x in train:
            if len(x) > k:
                number, known = contexts(x, k)
                counts += np.bincount((number * 4 + x[k:])[known], minlength=len(counts))
        counts = counts.reshape(-1, 4)
        number, known = contexts(test, k)
        at = np.where(known, number, 0)
        rows, sums = counts[at], counts[at].sum(1, keepdims=True)
        rows, sums = np.where(known[:, None], rows, 0), np.where(known[:, None], sums, 0)
        real = test < 4
        best = None
        for w in (1, 2, 4, 8, 16, 32, 64):
            q = p.copy()
            q[k:] = (rows + w * p[k:]) / (sums + w)
            bits = -np.log2(q[real, test[real]]).mean()
            best = min(best or (bits, w, q), (bits, w, q), key=lambda b: b[0])
        bits, w, p = best
        print(f"k {k:2}  w {w:2}  {bits:.4f} bits a base", flush=True)


main()
