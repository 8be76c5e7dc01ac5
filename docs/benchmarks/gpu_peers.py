#!/usr/bin/env python3
"""Speed of published code on a GPU, and of crocuta on the same card.

    python3 docs/benchmarks/gpu_peers.py mamba mamba2 transformer
    python3 docs/benchmarks/gpu_peers.py hyenadna windows --code standalone_hyenadna.py
    crocuta check embed genome.fa -m MODEL --device cuda --precision bf16      # crocuta's side

Needs torch with CUDA and einops; for Mamba the package mamba_ssm as its users install it. HyenaDNA is
the file that is named, of github.com/HazyResearch/hyena-dna. `windows` scores variants with it as its
users do: a window of 8,192 bases before the site and 1,024 from it on for each allele, logits, the sum
of log-probabilities; 500 sites of two alleles. `transformer` is the shape of transformer-d256-l8 with
torch's scaled_dot_product_attention, sequences of 32,768.
Random weights, a forward pass without a head; the best of three runs.
"""

import argparse
import pathlib
import time

import torch

from training import Hyena

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
    from mamba_ssm import Mamba

    return Blocks(Mamba), (4, 1 << 17)


def mamba2(args):
    from mamba_ssm import Mamba2

    return Blocks(Mamba2), (4, 1 << 17)


def hyenadna(args):
    """large-1m. Its convolutions are FFTs in float32 under autocast too."""
    sizes = argparse.Namespace(code=args.code, width=256, layers=8, length=1_000_000)
    return Hyena(sizes).backbone, (1, sizes.length)


class Attention(torch.nn.Module):
    """Rotary embeddings and causal attention, then two dense layers: both with a norm and a residual."""

    def __init__(self, width, heads=4, inner=1024):
        super().__init__()
        self.heads, self.norms = heads, torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out_proj = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.dense = torch.nn.Sequential(
            torch.nn.Linear(width, inner), torch.nn.GELU(), torch.nn.Linear(inner, width)
        )

    def turned(self, x):
        half = x.shape[-1] // 2
        angles = torch.arange(x.shape[2], device=x.device)[:, None] * 10000 ** (
            -torch.arange(half, device=x.device) / half
        )
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(
            self.turned(q), self.turned(k), v, is_causal=True
        )
        x = x + self.out_proj(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.dense(self.norms[1](x))


def transformer(args):
    model = torch.nn.Sequential(torch.nn.Embedding(16, 256), *(Attention(256) for _ in range(8)))
    return model, (16, 1 << 15)


def windows(args, before=8192, after=1024, sites=500, batch=50):
    """Alleles a second of the protocol of windows with HyenaDNA large-1m."""
    sizes = argparse.Namespace(code=args.code, width=256, layers=8, length=1_000_000)
    model = Hyena(sizes).cuda().eval()
    ids = torch.randint(7, 11, (2 * sites, before + after), device="cuda")
    for precision in (torch.float32, torch.bfloat16):
        times = []
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, precision != torch.float32):
            for _ in range(4):
                torch.cuda.synchronize()
                start = time.perf_counter()
                for part in ids.split(batch):
                    logps = torch.log_softmax(model(part[:, :-1]).float(), -1)
                    logps = logps[:, before - 1 :].gather(2, part[:, before:, None])
                    logps.sum((1, 2)).cpu()
                times.append(time.perf_counter() - start)
        # Of the two windows of a site one is the reference's.
        print(f"| windows | {precision} | {sites / min(times[1:]):,.0f} alleles a second |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=["mamba", "mamba2", "hyenadna", "transformer", "windows"])
    parser.add_argument("--code", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name in args.models:
        if name == "windows":
            windows(args)
            continue
        make = {"mamba": mamba, "mamba2": mamba2, "hyenadna": hyenadna, "transformer": transformer}
        model, shape = make[name](args)
        model = model.cuda().eval()
        ids = torch.randint(7, 11, shape, device="cuda")
        for precision in (torch.float32, torch.bfloat16):
            if name == "transformer":
                model.to(precision)
            elif name != "hyenadna":
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
