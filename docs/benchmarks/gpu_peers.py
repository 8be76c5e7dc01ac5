#!/usr/bin/env python3
"""Speed of published code on a GPU, and of crocuta on the same card.

    python3 docs/benchmarks/gpu_peers.py mamba mamba2 --mamba-ssm REPO
    python3 docs/benchmarks/gpu_peers.py hyenadna --code standalone_hyenadna.py
    crocuta check embed genome.fa -m MODEL --device cuda --precision bf16      # crocuta's side

Needs torch with CUDA, triton, einops, transformers; nvcc and ninja for mamba. REPO: a checkout of
state-spaces/mamba, of which nothing needs to be installed: its selective scan (forward alone) is
compiled here, Mamba-2's scan is Triton's. Without causal_conv1d their short convolution is PyTorch's.
Random weights, a forward pass without a head; the best of three runs.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile
import time
import types

import torch

from training import Hyena

# Backward passes take minutes to compile, and are not called.
NO_GRADIENTS = """
#include <cstdint>
#include <c10/cuda/CUDAStream.h>
#include "selective_scan.h"
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <c10/util/complex.h>
#include <c10/util/Exception.h>
template <typename input_t, typename weight_t>
void selective_scan_bwd_cuda(SSMParamsBwd &, cudaStream_t) { TORCH_CHECK(false, "forward alone"); }
#define GRADIENT(I) \\
    template void selective_scan_bwd_cuda<I, float>(SSMParamsBwd &, cudaStream_t); \\
    template void selective_scan_bwd_cuda<I, c10::complex<float>>(SSMParamsBwd &, cudaStream_t);
GRADIENT(float) GRADIENT(c10::Half) GRADIENT(c10::BFloat16)
"""


def package(name, path):
    """A package whose __init__ is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module


def compile_scan(repo):
    from torch.utils.cpp_extension import load

    source = repo / "csrc/selective_scan"
    stub = pathlib.Path(tempfile.mkdtemp()) / "no_gradients.cpp"
    stub.write_text(NO_GRADIENTS)
    parts = [source / f"selective_scan_fwd_{kind}.cu" for kind in ("fp32", "fp16", "bf16")]
    flags = ["-O3", "-std=c++20", "--use_fast_math", "--expt-relaxed-constexpr", "--expt-extended-lambda"]
    flags += [f"-U__CUDA_NO_{name}__" for name in (
        "HALF_OPERATORS", "HALF_CONVERSIONS", "BFLOAT16_OPERATORS", "BFLOAT16_CONVERSIONS", "BFLOAT162_OPERATORS",
        "BFLOAT162_CONVERSIONS")]
    sys.modules["selective_scan_cuda"] = load(
        name="selective_scan_cuda",
        sources=[str(path) for path in [source / "selective_scan.cpp", stub, *parts]],
        extra_include_paths=[str(source)],
        extra_cflags=["-O3", "-std=c++20"],
        extra_cuda_cflags=flags,
        with_cuda=True,
    )


class Blocks(torch.nn.Module):
    """Norm, mixer, residual: 16 times."""

    def __init__(self, mixer, width=256, layers=16):
        super().__init__()
        self.mixers = torch.nn.ModuleList(mixer(width) for _ in range(layers))
        self.norms = torch.nn.ModuleList(torch.nn.RMSNorm(width) for _ in range(layers))
        self.embedding = torch.nn.Embedding(16, width)

    def forward(self, ids):
        x = self.embedding(ids)
        for norm, mixer in zip(self.norms, self.mixers):
            x = x + mixer(norm(x).to(mixer.out_proj.weight.dtype)).float()
        return x


def mamba(args):
    compile_scan(args.mamba_ssm)
    package("mamba_ssm", args.mamba_ssm / "mamba_ssm")
    code = importlib.import_module("mamba_ssm.modules.mamba_simple")
    return Blocks(lambda width: code.Mamba(width, use_fast_path=False)), (4, 1 << 17)


def mamba2(args):
    package("mamba_ssm", args.mamba_ssm / "mamba_ssm")
    code = importlib.import_module("mamba_ssm.modules.mamba2")
    return Blocks(lambda width: code.Mamba2(width, use_mem_eff_path=False)), (4, 1 << 17)


def hyenadna(args):
    """large-1m. Its convolutions are FFTs in float32 under autocast too."""
    sizes = argparse.Namespace(code=args.code, width=256, layers=8, length=1_000_000)
    return Hyena(sizes).backbone, (1, sizes.length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=["mamba", "mamba2", "hyenadna"])
    parser.add_argument("--mamba-ssm", type=pathlib.Path, metavar="REPO")
    parser.add_argument("--code", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name in args.models:
        model, shape = {"mamba": mamba, "mamba2": mamba2, "hyenadna": hyenadna}[name](args)
        model = model.cuda().eval()
        ids = torch.randint(7, 11, shape, device="cuda")
        for precision in (torch.float32, torch.bfloat16):
            if name != "hyenadna":
                # The authors keep what decays in float32 within their modules.
                for mixer in model.mixers:
                    mixer.to(precision)
            times = []
            torch.cuda.reset_peak_memory_stats()
            with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, name == "hyenadna" and precision != torch.float32):
                for _ in range(4):
                    torch.cuda.synchronize()
                    start = time.perf_counter()
                    model(ids)
                    torch.cuda.synchronize()
                    times.append(time.perf_counter() - start)
            memory = torch.cuda.max_memory_allocated() / 1e9
            print(f"| {name} | {precision} | {ids.numel() / min(times[1:]):,.0f} | {memory:.1f} GB |", flush=True)
        del model


if __name__ == "__main__":
    main()
