"""Holds bigWig and bedGraph tracks to the table they were written beside, by other programs' readers.

    python read_tracks.py TABLE.parquet COLUMN TRACK.bw TRACK.bedGraph [STRAND]

Values, gaps, the contigs' lengths, and each zoom level's sums. Exits 0 if all agree.
"""

import json
import math
import sys

import numpy as np
import pyarrow.parquet as pq
import pyBigWig
import pybigtools

TABLE, COLUMN, BIGWIG, BEDGRAPH, *STRAND = sys.argv[1:]


def per_base(spans, length):
    values = np.full(length, np.nan, dtype=np.float32)
    for start, end, value in spans:
        values[start:end] = np.nan if value is None else value
    return values


def expected():
    table = pq.read_table(TABLE)
    footer = json.loads(pq.read_metadata(TABLE).metadata[b"crocuta"])
    lengths = {contig["name"]: contig["length"] for contig in footer["reference"]["contigs"]}
    spans = {}
    rows = zip(*(table[name].to_pylist() for name in ("chrom", "strand", "start", "end", COLUMN)))
    for chrom, strand, start, end, value in rows:
        if not STRAND or strand == STRAND[0]:
            spans.setdefault(chrom, []).append((start, end, value))
    return {chrom: per_base(of, lengths[chrom]) for chrom, of in spans.items()}


def alike(found, wanted, what):
    assert len(found) == len(wanted), what
    assert np.array_equal(np.isnan(found), np.isnan(wanted)), what
    known = ~np.isnan(wanted)
    assert np.array_equal(np.asarray(found, dtype=np.float32)[known], wanted[known]), what


def main():
    wanted = expected()
    lengths = {chrom: len(values) for chrom, values in wanted.items()}
    with pyBigWig.open(BIGWIG) as track:
        assert track.isBigWig() and dict(track.chroms()) == lengths, track.chroms()
        levels = track.header()["nLevels"]
        longest = max(int((~np.isnan(values)).sum()) for values in wanted.values())
        assert (levels > 0) == (longest > 64), levels
        for chrom, values in wanted.items():
            alike(np.array(track.values(chrom, 0, len(values))), values, chrom)
            # Without `exact` these are made of a zoom level.
            if (~np.isnan(values)).any():
                wide = values.astype(np.float64)
                for name, total in (("mean", np.nanmean(wide)), ("max", np.nanmax(wide)), ("min", np.nanmin(wide))):
                    found = track.stats(chrom, 0, len(values), type=name)[0]
                    assert math.isclose(found, total, rel_tol=1e-5, abs_tol=1e-6), (chrom, name, found, total)
    track = pybigtools.open(BIGWIG)
    assert dict(track.chroms()) == lengths
    zooms = track.zooms() if callable(track.zooms) else track.zooms
    assert len(zooms) == levels
    for level in zooms:
        level = getattr(level, "reduction_level", level)
        for chrom, values in wanted.items():
            parts = list(track.zoom_records(level, chrom, 0, len(values)))
            found = sum(summary["sum"] if isinstance(summary, dict) else summary.sum for _, _, summary in parts)
            total = float(np.nansum(values.astype(np.float64)))
            assert math.isclose(found, total, rel_tol=1e-4, abs_tol=1e-3), (level, chrom, found, total)
    spans = {}
    for line in open(BEDGRAPH):
        if not line.startswith("#"):
            chrom, start, end, value = line.split("\t")
            spans.setdefault(chrom, []).append((int(start), int(end), float(value)))
    for chrom, values in wanted.items():
        alike(per_base(spans.get(chrom, []), len(values)), values, f"bedGraph {chrom}")


if __name__ == "__main__":
    main()
