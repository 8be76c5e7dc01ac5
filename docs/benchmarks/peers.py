#!/usr/bin/env python3
"""Speed of other programs on a model that crocuta made, and of crocuta in the same minute.

    crocuta models new --preset mamba-d256-l16 --seed 1 -o MODEL
    python3 docs/benchmarks/peers.py MODEL [--tokens 1024] [--threads 1] [--runs 3]
    python3 docs/benchmarks/peers.py MODEL --caduceus REPO --mamba-ssm REPO    # a Caduceus
    python3 docs/benchmarks/peers.py MODEL --hyenadna standalone_hyenadna.py --tokens 160000    # a HyenaDNA

Needs torch, transformers, einops, safetensors and numpy. One forward pass over one sequence, without a
head; float32, or with `--precision bf16` torch's autocast.

Mamba and Mamba-2 run in transformers as they come without the mamba_ssm kernels, which need a GPU.
Caduceus is the authors' modelling code (REPO: a checkout of kuleshov-group/caduceus) on the Mamba of
mamba_ssm (a checkout of state-spaces/mamba). What of it needs a GPU is replaced: the fused kernel and
the scan by its own selective_scan_ref, the fused norm by torch's RMSNorm. HyenaDNA is the file that is
named, of github.com/HazyResearch/hyena-dna, with random weights.
"""

import argparse
import importlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import types

# Before torch is loaded: memory is kept between calls, or page faults are what is measured.
KEEP = {
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
}


def package(name, path):
    """A package whose __init__ is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module


def caduceus(args, config, torch):
    package("mamba_ssm", args.mamba_ssm / "mamba_ssm")
    package("caduceus", args.caduceus / "caduceus")
    scans = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    mixer = importlib.import_module("mamba_ssm.modules.mamba_simple")
    mixer.selective_scan_fn = scans.selective_scan_ref
    code = importlib.import_module("caduceus.modeling_caduceus")
    norms = importlib.import_module("caduceus.modeling_rcps")
    code.RMSNorm = norms.RMSNorm = torch.nn.RMSNorm
    settings = importlib.import_module("caduceus.configuration_caduceus").CaduceusConfig
    config["fused_add_norm"] = False
    config["ssm_cfg"] = {**(config.get("ssm_cfg") or {}), "use_fast_path": False}
    if config.get("complement_map"):
        config["complement_map"] = {int(a): int(b) for a, b in config["complement_map"].items()}
    model = code.Caduceus(settings(**config))
    from safetensors.torch import load_file

    weights = {name.removeprefix("caduceus."): x for name, x in load_file(args.model / "model.safetensors").items()}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    # Those of the reverse direction that are tied to the forward one are stored once.
    assert all("mamba_rev" in name and "_proj" in name or "norm_f.submodule" in name for name in missing), missing
    return model.eval(), f"authors' code, {pathlib.Path(args.caduceus).name}, with selective_scan_ref"


def hyenadna(args, config, torch):
    from training import Hyena

    sizes = argparse.Namespace(
        code=args.hyenadna, width=config["d_model"], layers=config["n_layer"], length=args.tokens
    )
    return Hyena(sizes).backbone.eval(), "authors' code"


def published(args, config, torch):
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModel.from_pretrained(args.model, dtype=torch.float32)
    return model.eval(), f"transformers {transformers.__version__}"


def show(args, program, threads, tokens, seconds):
    speeds = [tokens / s for s in seconds]
    median, low, high = statistics.median(speeds), min(speeds), max(speeds)
    print(f"| {args.model.name} | {program} | {threads} | {tokens:,} | {median:,.0f} | {low:,.0f} to {high:,.0f} |", flush=True)


def measure_torch(args):
    import torch

    torch.set_num_threads(args.threads)
    config = json.loads((args.model / "config.json").read_text())
    load = {"caduceus": caduceus, "hyenadna": hyenadna}.get(config.get("model_type"), published)
    model, name = load(args, config, torch)
    ids = torch.randint(7, 11, (1, args.tokens), generator=torch.Generator().manual_seed(1))
    ids = ids % config["vocab_size"]
    seconds = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, args.precision == "bf16"):
        for run in range(args.runs + 1):
            started = time.perf_counter()
            model(ids)
            seconds.append(time.perf_counter() - started)
    show(args, f"{name}, torch {torch.__version__}, {args.precision}", args.threads, args.tokens, seconds[1:])


def measure_crocuta(args):
    bases = args.crocuta_bases
    seconds = []
    with tempfile.TemporaryDirectory() as scratch:
        # No order in which a predictor of branches or a cache could find anything.
        letters, state = [], 1
        for _ in range(bases):
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            letters.append("ACGT"[state >> 62])
        pathlib.Path(f"{scratch}/sequence.fa").write_text(">s\n" + "".join(letters) + "\n")
        for _ in range(args.runs):
            command = [args.crocuta, "embed", f"{scratch}/sequence.fa", "-m", args.model, "--quiet", "--force"]
            command += ["-o", f"{scratch}/out.parquet", "--bin", "1000000", "--threads", args.threads]
            command += ["--precision", args.precision]
            command += ["--device", "cpu", "--summary", f"{scratch}/run.json"]
            subprocess.run(list(map(str, command)), check=True)
            speed = json.loads(pathlib.Path(f"{scratch}/run.json").read_text())["bases_per_second"]
            seconds.append(bases / speed)
    show(args, f"crocuta embed, {args.precision}", args.threads, bases, seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=1024, help="of the peer's sequence")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3, help="of each; one more before, of the peer")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--hyenadna", type=pathlib.Path)
    parser.add_argument("--caduceus", type=pathlib.Path)
    parser.add_argument("--mamba-ssm", type=pathlib.Path)
    parser.add_argument("--crocuta", default="target/release/crocuta")
    parser.add_argument("--crocuta-bases", type=int, default=100_000)
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in KEEP.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP})
    print("| model | program | threads | tokens | bases a second, median | range |")
    print("|---|---|---|---|---|---|", flush=True)
    measure_crocuta(args)
    measure_torch(args)


if __name__ == "__main__":
    main()
