"""Makes the goldens caduceus-ph-mamba2 and caduceus-ps-mamba2: Caduceus with Mamba-2's mixers.

Small models with random weights and, with numpy in float64, what they give: Caduceus as published,
which exchanges the strands before each layer, and the recurrence of Dao & Gu 2024, token by token,
with Mamba-2's parameters as mamba_ssm has them. caduceus_mamba2_published.py holds them to both codes.

`expected.safetensors` has `input_ids` (2, L), `last_hidden_state` and `logits`;
`layers.safetensors` the residual stream `after.i` of the first sequence.

    python caduceus_mamba2.py    # numpy, safetensors
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).parent
LENGTH = 100
# The characters' ids: A 7 with T 10, C 8 with G 9.
COMPLEMENT = [17 - token if 7 <= token <= 10 else token for token in range(16)]


def config(layers, per_strand, fused, mixer):
    generic = {"model_type": "", "return_dict": True, "transformers_version": "4.47.1"}
    return {
        "architectures": ["CaduceusForMaskedLM"],
        "model_type": "caduceus",
        "d_model": 24,
        "n_layer": layers,
        "vocab_size": 12,
        "pad_vocab_size_multiple": 8,
        "residual_in_fp32": True,
        "bidirectional": True,
        "bidirectional_strategy": "add",
        "bidirectional_weight_tie": True,
        "rcps": per_strand,
        "complement_map": {str(a): b for a, b in enumerate(COMPLEMENT)},
        "gradient_checkpointing_stride": 1,
        "initializer_cfg": generic | {"initializer_range": 0.02},
        "layer_cfg": generic
        | {
            "mode": "mamba-only",
            "mamba_cfg": generic | {"version": "v2", "mlp_cfg": None, "ssm_cfg": mixer},
        },
        "norm_cfg": generic | {"fused_add_norm": fused, "rms_norm": True, "norm_epsilon": 1e-5},
        "torch_dtype": "float32",
        "transformers_version": "4.47.1",
    }


def sizes(config):
    mixer = {"d_conv": 4, "expand": 2, "ngroups": 1, "bias": False}
    mixer |= config["layer_cfg"]["mamba_cfg"]["ssm_cfg"]
    inner = mixer["expand"] * config["d_model"]
    heads = inner // mixer["headdim"]
    return inner, heads, mixer["ngroups"], mixer["d_state"], mixer["d_conv"], mixer["bias"]


def names(config):
    """What lies around the embedding, the mixers and the norms of both strands."""
    both, fused = config["rcps"], config["norm_cfg"]["fused_add_norm"]
    inside = ".submodule" if both else ""
    return ".embedding" if both else "", inside, "" if fused else inside


def weights(config, rng, twice):
    """Random weights under the published names; the projections that are tied with either
    direction if `twice`, else with the first."""
    d, (inner, heads, groups, states, taps, bias) = config["d_model"], sizes(config)
    columns = inner + 2 * groups * states
    inside, mixer_inside, norm_inside = names(config)
    w, at = {}, "caduceus.backbone."

    def normal(name, *shape, scale=1.0, around=0.0):
        w[name] = around + scale * rng.standard_normal(shape)

    normal(f"{at}embeddings.word_embeddings{inside}.weight", 16, d)
    for i in range(config["n_layer"]):
        layer = f"{at}layers.{i}."
        normal(f"{layer}norm{norm_inside}.weight", d, scale=0.2, around=1.0)
        mixer = f"{layer}mixer{mixer_inside}."
        for direction in ["mamba_fwd.", "mamba_rev."]:
            own = mixer + direction
            w[own + "A_log"] = np.log(rng.uniform(1, 16, heads))
            normal(own + "D", heads, scale=0.3, around=1.0)
            normal(own + "dt_bias", heads, around=-2.0)
            normal(own + "conv1d.weight", columns, 1, taps, scale=0.5)
            normal(own + "conv1d.bias", columns, scale=0.3)
            normal(own + "norm.weight", inner, scale=0.2, around=1.0)
        for name, rows, width in [("in_proj", inner + columns + heads, d), ("out_proj", d, inner)]:
            own = f"{mixer}mamba_fwd.{name}."
            normal(own + "weight", rows, width, scale=width**-0.5)
            if bias:
                normal(own + "bias", rows, scale=0.3)
            for stored in [name for name in w if name.startswith(own) and twice]:
                w[stored.replace("mamba_fwd", "mamba_rev")] = w[stored]
    normal(f"{at}norm_f{norm_inside}.weight", d, scale=0.2, around=1.0)
    return {name: value.astype(np.float32) for name, value in w.items()}


def silu(x):
    return x / (1 + np.exp(-x))


def rms_norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def mamba2(w, own, tied, sizes, x):
    """One mixer from the first row of x (T, D) to the last."""
    inner, heads, groups, states, taps, _ = sizes

    def linear(x, name):
        return x @ w[f"{tied}{name}.weight"].T + w.get(f"{tied}{name}.bias", 0)

    columns = inner + 2 * groups * states
    z, xbc, steps = np.split(linear(x, "in_proj"), [inner, inner + columns], axis=1)
    padded = np.vstack([np.zeros((taps - 1, columns)), xbc])
    kernel = w[own + "conv1d.weight"][:, 0]
    xbc = silu(sum(padded[j : j + len(x)] * kernel[:, j] for j in range(taps)) + w[own + "conv1d.bias"])
    u, b, c = np.split(xbc, [inner, inner + groups * states], axis=1)
    u = u.reshape(-1, heads, inner // heads)
    # Each group's B and C for all of its heads.
    b, c = (np.repeat(m.reshape(-1, groups, states), heads // groups, axis=1) for m in (b, c))
    steps = np.log1p(np.exp(steps + w[own + "dt_bias"]))  # (T, H)
    rate = -np.exp(w[own + "A_log"])
    state, y = np.zeros((heads, inner // heads, states)), []
    for t in range(len(x)):
        added = (steps[t, :, None] * u[t])[:, :, None] * b[t][:, None]
        state = np.exp(steps[t] * rate)[:, None, None] * state + added
        y.append((state * c[t][:, None]).sum(-1) + w[own + "D"][:, None] * u[t])
    y = np.reshape(y, (-1, groups, inner // groups)) * silu(z).reshape(-1, groups, inner // groups)
    y = rms_norm(y, w[own + "norm.weight"].reshape(groups, -1)).reshape(-1, inner)
    return linear(y, "out_proj")


def both_directions(w, at, sizes, x):
    right, left = at + "mamba_fwd.", at + "mamba_rev."
    return mamba2(w, right, right, sizes, x) + mamba2(w, left, right, sizes, x[::-1])[::-1]


def turned(x):
    return x[::-1, ::-1]


def on_strands(run, x):
    """`run` on each strand in its direction of reading; they lie side by side in x (T, 2D)."""
    first, second = np.split(x, 2, axis=1)
    return np.hstack([run(first), turned(run(turned(second)))])


def forward(config, w, ids):
    at, (inside, mixer_inside, norm_inside) = "caduceus.backbone.", names(config)
    both, fused = config["rcps"], config["norm_cfg"]["fused_add_norm"]
    words = w[f"{at}embeddings.word_embeddings{inside}.weight"]
    strands = on_strands if both else lambda run, x: run(x)
    x = words[ids]
    if both:
        x = np.hstack([x, turned(words[np.take(COMPLEMENT, ids[::-1])])])
    after = [x]
    for i in range(config["n_layer"]):
        layer = f"{at}layers.{i}."
        if both and fused:
            x = np.hstack(np.split(x, 2, axis=1)[::-1])
        y = strands(lambda x: rms_norm(x, w[f"{layer}norm{norm_inside}.weight"]), x)
        x = x + strands(lambda y: both_directions(w, f"{layer}mixer{mixer_inside}.", sizes(config), y), y)
        after.append(x)
    hidden = strands(lambda x: rms_norm(x, w[f"{at}norm_f{norm_inside}.weight"]), x)
    if not both:
        return after, hidden, hidden @ words.T
    first, second = np.split(hidden, 2, axis=1)
    return after, hidden, first @ words.T + second[:, ::-1] @ words[COMPLEMENT].T


def main():
    models = {
        "caduceus-ph-mamba2": (
            config(2, False, False, {"d_state": 10, "headdim": 8, "ngroups": 2, "bias": True}),
            True,
        ),
        "caduceus-ps-mamba2": (config(3, True, True, {"d_state": 10, "headdim": 12}), False),
    }
    for seed, (name, (settings, twice)) in enumerate(models.items()):
        rng = np.random.default_rng(seed)
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
        w = weights(settings, rng, twice)
        ids = rng.integers(7, 12, (2, LENGTH))
        wide = {name: value.astype(np.float64) for name, value in w.items()}
        if settings["rcps"]:
            for buffer in ["caduceus.backbone.embeddings.word_embeddings", "lm_head"]:
                w[f"{buffer}.complement_map"] = np.array(COMPLEMENT)
        save_file(w, folder / "model.safetensors", {"format": "pt"})
        after, hidden, logits = zip(*(forward(settings, wide, row) for row in ids))
        narrow = lambda x: np.ascontiguousarray(x, dtype=np.float32)
        expected = {"input_ids": ids, "last_hidden_state": narrow(hidden), "logits": narrow(logits)}
        save_file(expected, folder / "expected.safetensors")
        save_file({f"after.{i}": narrow(x) for i, x in enumerate(after[0])}, folder / "layers.safetensors")


main()
