"""Makes gradients.safetensors beside the goldens of hyenadna and mamba1, with PyTorch in f64.

Each holds `loss`, the mean cross-entropy of each token given those before it over both sequences of
`expected.safetensors`, and its gradient with respect to every parameter in `model.safetensors`.
Mamba is transformers' own code; HyenaDNA is written out below from its paper. Both are held to the
published logits first.

    python gradients.py    # torch 2.15, transformers 5.23, safetensors
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
BUFFERS = ("pos_emb.z", "pos_emb.t", "modulation.deltas")


def hyenadna(config, w, ids):
    at = "hyena.backbone."
    d, taps = config["d_model"], ids.shape[1]
    x = w[at + "embeddings.word_embeddings.weight"][ids]

    def norm(x, name):
        return F.layer_norm(x, (d,), w[name + ".weight"], w[name + ".bias"], 1e-5)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    for i in range(config["n_layer"]):
        layer = f"{at}layers.{i}."
        mixer = layer + "mixer."
        u = linear(norm(x, layer + "norm1"), mixer + "in_proj").transpose(1, 2)
        u = F.conv1d(
            F.pad(u, (2, 0)),
            w[mixer + "short_filter.weight"],
            w[mixer + "short_filter.bias"],
            groups=3 * d,
        )
        x0, x1, v = u.split(d, dim=1)
        v = v * x1
        fn = mixer + "filter_fn."
        a = w[fn + "pos_emb.z"][0, :taps]
        freq = w[fn + "implicit_filter.1.freq"]
        for j in (0, 2, 4):
            a = torch.sin(freq * linear(a, f"{fn}implicit_filter.{j}"))
        g = F.linear(a, w[fn + "implicit_filter.6.weight"])
        t = w[fn + "pos_emb.t"][0, :taps]
        k = g * (torch.exp(-t * w[fn + "modulation.deltas"][0].abs()) + 0.05)
        n = 2 * taps
        c = torch.fft.irfft(torch.fft.rfft(v, n) * torch.fft.rfft(k.T, n), n)[..., :taps]
        y = (x0 * (c + w[fn + "bias"][:, None] * v)).transpose(1, 2)
        x = x + linear(y, mixer + "out_proj")
        y = linear(norm(x, layer + "norm2"), layer + "mlp.fc1")
        x = x + linear(F.gelu(y, approximate="tanh"), layer + "mlp.fc2")
    return F.linear(norm(x, at + "ln_f"), w["lm_head.weight"])


def mamba(config, w, ids):
    from transformers import MambaConfig, MambaForCausalLM

    config.pop("transformers_version", None)
    model = MambaForCausalLM(MambaConfig(**config)).double()
    return torch.func.functional_call(model, w, (), {"input_ids": ids, "use_cache": False}).logits


for name, forward in [("hyenadna", hyenadna), ("mamba1", mamba)]:
    folder = HERE / name
    config = json.loads((folder / "config.json").read_text())
    weights = {k: v.double() for k, v in load_file(folder / "model.safetensors").items()}
    for k, v in weights.items():
        v.requires_grad_(not k.endswith(BUFFERS))
    expected = load_file(folder / "expected.safetensors")
    ids = expected["input_ids"]
    logits = forward(config, weights, ids)
    difference = (logits - expected["logits"]).abs().max() / expected["logits"].abs().max()
    assert difference < 1e-5, difference
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    found = {k: v.grad.float().contiguous() for k, v in weights.items() if v.grad is not None}
    found["loss"] = loss.detach().float().reshape(1)
    save_file(found, folder / "gradients.safetensors")
    print(name, f"loss {loss.item():.6f}", len(found) - 1, "gradients; logits within", f"{difference:.1e}")
