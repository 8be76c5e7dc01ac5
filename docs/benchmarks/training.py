"""Bases a second of training steps in PyTorch, to compare `crocuta fit` with: docs/benchmarks.md.

HyenaDNA is the authors' code, the file standalone_hyenadna.py of github.com/HazyResearch/hyena-dna;
Mamba is transformers' MambaForCausalLM without its CUDA kernels. One step: logits of every base,
cross-entropy of the next one, backward, gradients shortened to 1, AdamW. Random bases, no dropout.
"""

import argparse
import importlib.util
import statistics
import sys
import time
import types

import torch
from torch import nn
from torch.nn import functional

VOCABULARY = 16


class Hyena(nn.Module):
    """The authors' backbone, and logits by its embedding."""

    def __init__(self, args):
        super().__init__()
        # What the file imports and this does not use.
        stochastic = types.SimpleNamespace(StochasticDepth=lambda *_, **__: nn.Identity())
        tokens = types.SimpleNamespace(AddedToken=object, PreTrainedTokenizer=object)
        for name, module in [
            ("torchvision", types.ModuleType("torchvision")),
            ("torchvision.ops", stochastic),
            ("transformers", types.ModuleType("transformers")),
            ("transformers.tokenization_utils", tokens),
        ]:
            sys.modules[name] = module
        spec = importlib.util.spec_from_file_location("standalone_hyenadna", args.code)
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        layer = {
            "d_model": args.width, "l_max": args.length + 2, "emb_dim": 5, "filter_order": 64, "order": 2,
            "short_filter_order": 3, "modulate": True, "w": 10, "num_inner_mlps": 2,
        }  # fmt: skip
        self.backbone = code.LMBackbone(
            d_model=args.width, n_layer=args.layers, d_inner=4 * args.width,
            vocab_size=VOCABULARY, layer=layer, embed_dropout=0.0,
        )  # fmt: skip

    def forward(self, ids):
        hidden = self.backbone(ids)
        return hidden @ self.backbone.embeddings.word_embeddings.weight.T


class Mamba(nn.Module):
    """transformers' model, one sequential or chunked scan without kernels."""

    def __init__(self, args):
        super().__init__()
        from transformers import MambaConfig, MambaForCausalLM

        self.model = MambaForCausalLM(
            MambaConfig(
                vocab_size=VOCABULARY, hidden_size=args.width, num_hidden_layers=args.layers,
                state_size=16, use_cache=False,
            )  # fmt: skip
        )

    def forward(self, ids):
        return self.model(ids, use_cache=False).logits


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=["hyenadna", "mamba"])
    parser.add_argument("--code", help="standalone_hyenadna.py")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = {"hyenadna": Hyena, "mamba": Mamba}[args.model](args).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    seconds = []
    for _ in range(args.steps + 1):
        ids = torch.randint(7, 11, (args.batch, args.length + 1))
        start = time.perf_counter()
        logits = model(ids[:, :-1])
        loss = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    bases = args.batch * args.length
    rates = [bases / s for s in seconds[1:]]  # the first one warms up
    print(f"{args.model}: {sum(p.numel() for p in parameters)} values")
    print(f"median {statistics.median(rates):.0f} bases/s, best {max(rates):.0f}")


if __name__ == "__main__":
    main()
