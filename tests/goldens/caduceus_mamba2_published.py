"""Holds the goldens caduceus-ph-mamba2 and caduceus-ps-mamba2 to the published code, in float64.

It runs on the CPU: mamba_ssm's plain functions of norms and of the scan stand for its kernels.

    python caduceus_mamba2_published.py CODE    # torch 1.13 or later, einops, packaging, safetensors

CODE holds the folder `caduceus` of github.com/eric-czech/caduceus, branch cad-dev-3-grad-ckpt, and
the folder `mamba_ssm` of github.com/state-spaces/mamba.
"""

import importlib
import json
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from safetensors.torch import load_file

HERE, CODE = Path(__file__).parent, Path(sys.argv[1])
PREFIX = "caduceus.backbone."


def module(name, **attributes):
    """Puts a module where an import finds it."""
    made = types.ModuleType(name)
    vars(made).update(attributes)
    sys.modules[name] = made
    return made


def package(name):
    """A package without what its __init__ would import."""
    module(name, __path__=[str(CODE / name.replace(".", "/"))])


def source_of(path, first, last):
    """What a file defines between two lines, without its imports of kernels."""
    text = (CODE / path).read_text()
    scope = {"torch": torch, "F": F, "rearrange": rearrange, "repeat": repeat}
    exec(text[text.index(first) : text.index(last)], scope)
    return scope


class Settings:
    """In the place of transformers' PretrainedConfig."""

    def __init__(self, **_):
        pass


def stub():
    unchanged = lambda *_, **__: lambda function: function
    one = lambda *_, **__: types.SimpleNamespace(num_warps=1)
    jit = lambda function: function
    module("triton", jit=jit, heuristics=unchanged, autotune=unchanged, Config=one, __version__="3.0")
    sys.modules["triton"].language = sys.modules["triton.language"] = MagicMock()
    module("transformers", PreTrainedModel=torch.nn.Module, PretrainedConfig=Settings)
    outputs = ["BaseModelOutputWithNoAttention", "MaskedLMOutput", "SequenceClassifierOutput"]
    module("transformers.modeling_outputs", **dict.fromkeys(outputs))
    module("huggingface_hub", PyTorchModelHubMixin=type("Mixin", (), {}))
    for name in ["", ".modules", ".ops", ".ops.triton", ".distributed", ".utils"]:
        package("mamba_ssm" + name)
    module("mamba_ssm.distributed.tensor_parallel", ColumnParallelLinear=None, RowParallelLinear=None)
    module("mamba_ssm.distributed.distributed_utils", all_reduce=None, reduce_scatter=None)
    module("mamba_ssm.modules.mamba_simple", Mamba=None)
    module("mamba_ssm.ops.triton.selective_state_update", selective_state_update=None)
    package("caduceus")
    package("caduceus.compat")


def published():
    """The modules of the published code."""
    stub()
    gated = source_of("mamba_ssm/ops/triton/layernorm_gated.py", "def rms_norm_ref", "@triton.heuristics")
    minimal = source_of("mamba_ssm/modules/ssd_minimal.py", "def segsum", "# Simple test")
    norms = importlib.import_module("mamba_ssm.ops.triton.layer_norm")

    class Norm(torch.nn.Module):
        def __init__(self, width, eps=1e-5, group_size=None, norm_before_gate=False, **_):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(width))
            self.bias, self.eps, self.size, self.before = None, eps, group_size, norm_before_gate

        def forward(self, x, z=None):
            options = {"group_size": self.size, "norm_before_gate": self.before, "upcast": False}
            return gated["rms_norm_ref"](x, self.weight, None, z=z, eps=self.eps, **options)

    def fused(x, weight, bias, residual=None, prenorm=False, eps=1e-6, **_):
        out = norms.rms_norm_ref(x, weight, bias, residual=residual, eps=eps, prenorm=prenorm)
        # Without a residual the kernel returns its input as one; the plain function does not.
        return (out[0], x) if prenorm and residual is None else out

    def scan(x, steps, rate, b, c, D=None, dt_bias=None, **_):
        steps = F.softplus(steps + dt_bias)
        b, c = (m.repeat_interleave(x.shape[2] // m.shape[2], dim=2) for m in (b, c))
        plain = minimal["ssd_minimal_discrete"]
        return plain(x * steps[..., None], rate * steps, b, c, 20)[0] + D[:, None] * x

    module("mamba_ssm.ops.triton.layernorm_gated", RMSNorm=Norm)
    combined = {"mamba_split_conv1d_scan_combined": None}
    combined["mamba_chunk_scan_combined"] = lambda *inputs, chunk_size=None, **options: scan(*inputs, **options)
    module("mamba_ssm.ops.triton.ssd_combined", **combined)
    block = importlib.import_module("mamba_ssm.modules.block")
    kernels = {"RMSNorm": Norm, "layer_norm_fn": fused, "rms_norm_fn": fused}
    version = lambda **_: types.SimpleNamespace(major=2)
    module("caduceus.compat.mamba", Block=block.Block, GatedMLP=None, get_mamba_version=version, **kernels)
    code = [importlib.import_module("caduceus." + name) for name in ("modeling_caduceus", "modeling_rcps")]
    for changed in [block, *code]:
        vars(changed).update(kernels)
    return [*code, importlib.import_module("caduceus.configuration_caduceus")]


def settings(config):
    """What the published configuration takes; all of it is float64 here."""
    generic = ("model_type", "return_dict", "transformers_version")
    kept = {k: settings(v) if isinstance(v, dict) else v for k, v in config.items() if k not in generic}
    if "mamba_cfg" in kept:
        kept["mamba_cfg"]["ssm_cfg"]["use_mem_eff_path"] = False
    if "d_model" in kept:
        for name in ("architectures", "torch_dtype", "initializer_cfg"):
            del kept[name]
        kept["residual_in_fp32"] = False
        kept["vocab_size"] = len(kept["complement_map"])
        kept["complement_map"] = {int(a): b for a, b in kept["complement_map"].items()}
    return kept


def read(name, file):
    """The tensors of one of a golden's files, as float64 if they are real."""
    tensors = load_file(HERE / name / f"{file}.safetensors")
    return {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}


def main():
    torch.set_default_dtype(torch.float64)
    code, strands, configuration = published()
    for name in ["caduceus-ph-mamba2", "caduceus-ps-mamba2"]:
        weights, expected, layers = (read(name, file) for file in ("model", "expected", "layers"))
        config = settings(json.loads((HERE / name / "config.json").read_text()))
        config = configuration.CaduceusConfig(**config)
        model = code.CaduceusMixerModel(config).eval()
        own = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
        missing, unexpected = model.load_state_dict(own, strict=False)
        assert not unexpected and all("mamba_rev" in k and "_proj." in k for k in missing), missing
        found = []
        for layer in model.layers:
            layer.register_forward_hook(lambda _, __, out: found.append((out[0] + out[1])[0]))
        with torch.no_grad():
            hidden, _ = model(expected["input_ids"])
            words = model.embeddings.word_embeddings.weight
            if config.rcps:
                head = strands.RCPSLMHead(config.d_model, config.vocab_size, config.complement_map)
                head.set_weight(words)
                logits = head(hidden)
            else:
                logits = F.linear(hidden, words)
        pairs = {"hidden": (hidden, expected["last_hidden_state"]), "logits": (logits, expected["logits"])}
        pairs |= {f"after.{i + 1}": (x, layers[f"after.{i + 1}"]) for i, x in enumerate(found)}
        for what, (x, y) in pairs.items():
            apart = ((x - y).abs().max() / y.abs().max()).item()
            assert apart < 1e-6, (name, what, apart)
            print(name, what, f"{apart:.1e}")


main()
