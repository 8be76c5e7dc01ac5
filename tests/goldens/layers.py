"""Makes layers.safetensors beside the goldens: what the published code leaves between its blocks.

Each holds, for the first sequence of `expected.safetensors`, the residual stream `after.i` after
each i blocks and, of Evo, `blocks.i.mlp.l3` of the last block but one, in float32. The last layer
of each model is held to `expected.safetensors` first.

Mamba and Mamba-2 are transformers' code. Of the others, the authors' own is run, on the CPU: CUDA
kernels are replaced by the plain functions that stand beside them in the same files, and Evo's
attention, which needs flash_attn, by Vortex's copy of it.

    python layers.py CODE    # torch 2.15, transformers 5.24, safetensors, einops
                             # pip install --no-deps stripedhyena==0.2.2 vtx==1.1.0

CODE holds `standalone_hyenadna.py` of github.com/HazyResearch/hyena-dna, the folder `caduceus` of
github.com/kuleshov-group/caduceus and the folder `mamba_ssm` of github.com/state-spaces/mamba.
"""

import contextlib
import importlib
import json
import logging
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
CODE = Path(sys.argv[1])


def module(name, **attributes):
    """Puts a module where an import finds it."""
    made = types.ModuleType(name)
    vars(made).update(attributes)
    sys.modules[name] = made
    return made


def package(name, path):
    """A package without what its __init__ would import."""
    return module(name, __path__=[str(path)])


class Hooks:
    """What modules return, by name; of a block that keeps the residual apart, the sum."""

    def __init__(self):
        self.found = {}

    def on(self, name, module):
        def keep(_, __, out):
            if isinstance(out, tuple):
                out = out[0] + out[1] if torch.is_tensor(out[1]) else out[0]
            self.found[name] = out.detach().clone()

        module.register_forward_hook(keep)


def blocks(hooks, embedding, all_blocks):
    hooks.on("after.0", embedding)
    for i, block in enumerate(all_blocks):
        hooks.on(f"after.{i + 1}", block)


def mamba(config, weights, ids, hooks):
    from transformers import Mamba2ForCausalLM, MambaForCausalLM, AutoConfig

    path = config["path"]
    kind = {"mamba": MambaForCausalLM, "mamba2": Mamba2ForCausalLM}[config["model_type"]]
    kept = AutoConfig.from_pretrained(path)
    model = kind.from_pretrained(path, config=kept, dtype=torch.float32).eval()
    blocks(hooks, model.backbone.embeddings, model.backbone.layers)
    return model(ids, use_cache=False).logits


def hyenadna(config, weights, ids, hooks):
    module("torchvision", ops=module("torchvision.ops", StochasticDepth=lambda *_, **__: torch.nn.Identity()))
    module(
        "transformers.tokenization_utils",
        AddedToken=object,
        PreTrainedTokenizer=object,
    )
    sys.path.insert(0, str(CODE))
    code = importlib.import_module("standalone_hyenadna")
    layer = {
        "_name_": "hyena",
        "emb_dim": config["emb_dim"],
        "filter_order": config["filter_order"],
        "short_filter_order": 3,
        "l_max": config["max_seq_len"],
        "modulate": True,
        "w": 10,
    }
    model = code.HyenaDNAModel(
        d_model=config["d_model"],
        n_layer=config["n_layer"],
        d_inner=config["d_inner"],
        vocab_size=config["vocab_size"],
        layer=layer,
        pad_vocab_size_multiple=8,
        embed_dropout=0.0,
        residual_in_fp32=True,
    ).eval()
    head = weights.pop("lm_head.weight")
    weights = {name.removeprefix("hyena."): value for name, value in weights.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith(".freq") for name in missing)
    blocks(hooks, model.backbone.embeddings, model.backbone.layers)
    return model(ids) @ head.T


def caduceus(config, weights, ids, hooks):
    package("mamba_ssm", CODE / "mamba_ssm")
    module("selective_scan_cuda")
    scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    norms = importlib.import_module("mamba_ssm.ops.triton.layer_norm")
    simple = importlib.import_module("mamba_ssm.modules.mamba_simple")
    block = importlib.import_module("mamba_ssm.modules.block")
    package("caduceus", CODE / "caduceus")
    code = importlib.import_module("caduceus.modeling_caduceus")
    rcps = importlib.import_module("caduceus.modeling_rcps")
    simple.selective_scan_fn = scan.selective_scan_ref

    def fused(x, weight, bias, residual=None, prenorm=False, eps=1e-6, **_):
        plain = norms.rms_norm_ref
        out = plain(x, weight, bias, residual=residual, eps=eps, prenorm=prenorm)
        # Without a residual the kernel returns its input as one; the plain function does not.
        return (out[0], x) if prenorm and residual is None else out

    block.layer_norm_fn = code.rms_norm_fn = rcps.rms_norm_fn = fused
    kept = types.SimpleNamespace(**config)
    if config["rcps"]:
        kept.complement_map = {int(a): b for a, b in config["complement_map"].items()}
    model = code.CaduceusMixerModel(kept).eval()
    prefix = "caduceus.backbone."
    weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # The projections that both directions share.
    assert not unexpected and all("_proj." in k or "complement_map" in k for k in missing), missing
    blocks(hooks, model.embeddings, model.layers)
    hooks.on("last", model.norm_f)
    return model(ids)[0]


def rotate(x, cos, sin, seqlen_offsets=0, interleaved=False, inplace=False, **_):
    """Rotary positions, for the kernel of that name."""
    assert inplace and not interleaved and seqlen_offsets == 0
    half, n = cos.shape[-1], x.shape[1]
    cos, sin = cos[:n, None], sin[:n, None]
    a, b = x[..., :half].clone(), x[..., half : 2 * half].clone()
    x[..., :half] = a * cos - b * sin
    x[..., half : 2 * half] = a * sin + b * cos
    return x


def evo(config, weights, ids, hooks):
    package("vortex.ops", "nowhere")
    package("vortex.ops.embedding", "nowhere")
    module("vortex.ops.embedding.rotary", apply_rotary=rotate)
    attention = importlib.import_module("vortex.model.attention")
    rotary = importlib.import_module("vortex.model.rotary")
    for name in ["flash_attn", "flash_attn.modules", "flash_attn.layers"]:
        package(name, "nowhere")
    module("flash_attn.modules.mha", MHA=attention.MHA)
    module("flash_attn.layers.rotary", RotaryEmbedding=rotary.RotaryEmbedding)
    torch.cuda.device = lambda _: contextlib.nullcontext()
    logging.disable(logging.WARNING)
    of = "vortex" if "hcl_layer_idxs" in config else "stripedhyena"
    code = importlib.import_module(f"{of}.model.model" if of == "vortex" else f"{of}.model")
    utils = importlib.import_module(f"{of}.model.utils" if of == "vortex" else f"{of}.utils")
    kept = {k: getattr(torch, v[6:]) if str(v).startswith("torch.f") else v for k, v in config.items()}
    # Before the weights are loaded: Vortex' projections would round them to bfloat16.
    model = code.StripedHyena(utils.dotdict(kept)).eval().float()
    weights = {name.removeprefix("backbone."): value for name, value in weights.items()}
    if of == "vortex":
        model.custom_load_state_dict(weights, strict=False)
    else:
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not [k for k in missing if not k.startswith("unembed")], missing
    blocks(hooks, model.embedding_layer, model.blocks)
    inner = len(model.blocks) - 2
    hooks.on(f"blocks.{inner}.mlp.l3", model.blocks[inner].mlp.l3)
    return model(ids)[0]


FAMILIES = {
    "mamba1": mamba,
    "mamba1-untied": mamba,
    "mamba2": mamba,
    "mamba2-groups": mamba,
    "hyenadna": hyenadna,
    "caduceus-ph": caduceus,
    "caduceus-ps": caduceus,
    "evo1": evo,
    "evo2": evo,
}


def main():
    for name, run in FAMILIES.items():
        folder = HERE / name
        config = json.loads((folder / "config.json").read_text()) | {"path": folder}
        weights = {}
        for file in folder.glob("model*.safetensors"):
            weights |= {k: v for k, v in load_file(file).items()}
        expected = load_file(folder / "expected.safetensors")
        hooks = Hooks()
        with torch.no_grad():
            out = run(config, weights, expected["input_ids"], hooks)
        published = expected["last_hidden_state" if run is caduceus else "logits"]
        difference = ((out - published).abs().max() / published.abs().max()).item()
        assert difference < 1e-5, (name, difference)
        layers = {k: v[0].contiguous() for k, v in hooks.found.items() if k != "last"}
        save_file(layers, folder / "layers.safetensors")
        print(name, f"{difference:.1e}", {k: tuple(v.shape) for k, v in layers.items()})


main()
