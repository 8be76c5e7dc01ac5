"""Puts the files that `--summary` writes into one that MultiQC reads, on stdout:

python3 collect.py SUMMARY.json... > crocuta_mqc.json
"""

import json
import pathlib
import sys


def row(summary):
    """The columns of multiqc_config.yaml that a summary has."""
    bases = summary.get("bases_read", summary.get("bases"))
    columns = {
        "model": summary["model"],
        "bases": bases,
        "n_percent": 100 * summary["n"] / bases if bases and "n" in summary else None,
        "encoder_bases": summary["encoder_bases"],
        "rows": summary["rows"],
        "clipped_rows": summary["clipped_rows"],
        "speed": summary["bases_per_second"],
        "minutes": summary["seconds"] / 60,
        "memory": gigabytes(summary["peak_memory_bytes"]),
        "device_memory": gigabytes(summary["device_peak_memory_bytes"]),
        "device": summary["device"],
        "version": summary["version"],
    }
    return {name: value for name, value in columns.items() if value is not None}


def gigabytes(count):
    return None if count is None else count / 1e9


def main(paths):
    runs = {path.stem: row(json.loads(path.read_text())) for path in paths}
    json.dump({"id": "crocuta", "data": runs}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main([pathlib.Path(path) for path in sys.argv[1:]])
