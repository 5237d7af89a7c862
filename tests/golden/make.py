#!/usr/bin/env python3
"""Makes the golden files: small Falcon-H1 and Llama models and what transformers computes with them.

  python3 tests/golden/make.py [CASE ...]

Packages: torch, transformers==5.17.0 (Llama: 5.24.0), safetensors. fp64 on the CPU, plain torch path,
fixed seeds; written as fp32.
Each case is a folder: config.json, model.safetensors (a Hugging Face model folder),
tokens.safetensors (input_ids, sometimes document_ids) and expected.safetensors (logits, loss,
grad.<name>). Weights are random everywhere (biases, norms, A_log, D, dt_bias too): a term that
is left out cannot hide behind a zero or a one. Documents run alone, see scripts/compare_hf.py.
A gradient whose terms cancel moves far where a forward moves by its rounding, whoever computes it:
a case whose draw of weights is of that kind is refused, see sensitivity().
The folder adamw holds ten optimizer steps in fp32 instead.
"""
import json
import os
import sys
from contextlib import contextmanager

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "scripts"))

import torch  # noqa: E402
from compare_hf import default_labels, forward, relative_error, run, token_loss  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import (FalconH1Config, FalconH1ForCausalLM, LlamaConfig,  # noqa: E402
                          LlamaForCausalLM)

BASE = dict(
    vocab_size=67, hidden_size=32, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=4, pad_token_id=None,
    bos_token_id=1, eos_token_id=2, max_position_embeddings=256, rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 1e11}, tie_word_embeddings=False,
    mamba_d_ssm=24, mamba_n_heads=4, mamba_d_head=6, mamba_n_groups=1, mamba_d_state=8,
    mamba_d_conv=4, mamba_chunk_size=8, mamba_rms_norm=False, mamba_norm_before_gate=False,
    time_step_limit=[0.0, float("inf")], mamba_conv_bias=True)
ROPE_1E4 = {"rope_type": "default", "rope_theta": 1e4}
NORM = dict(mamba_rms_norm=True)
GROUPS2 = dict(mamba_n_groups=2, **NORM)
GROUPS3 = dict(mamba_d_ssm=36, mamba_n_heads=6, mamba_n_groups=3, mamba_d_state=6)
MULTIPLIERS = dict(
    embedding_multiplier=1.7, lm_head_multiplier=0.6, key_multiplier=0.45,
    attention_in_multiplier=1.3, attention_out_multiplier=0.7, ssm_in_multiplier=1.2,
    ssm_out_multiplier=0.55, ssm_multipliers=[0.8, 1.4, 0.65, 1.25, 0.35],
    mlp_multipliers=[0.75, 1.35])
# The ratios of the 34B model: 20/4 heads, d/ds = 1.25, two groups, its multipliers.
SHAPE_34B = dict(
    hidden_size=40, intermediate_size=84, num_attention_heads=20, num_key_value_heads=4,
    head_dim=4, mamba_d_ssm=32, mamba_n_heads=8, mamba_d_head=4, mamba_n_groups=2,
    mamba_d_state=6, mamba_rms_norm=True, num_hidden_layers=1,
    embedding_multiplier=5.656854, lm_head_multiplier=0.0078125,
    key_multiplier=0.011048543456039804, attention_out_multiplier=0.0375, ssm_in_multiplier=0.25,
    ssm_out_multiplier=0.08838834764831845,
    ssm_multipliers=[0.3535533905932738, 0.25, 0.1767766952966369, 0.5, 0.3535533905932738],
    mlp_multipliers=[0.1767766952966369, 0.011160714285714284])
BIASES = dict(attention_bias=True, mlp_bias=True, projectors_bias=True, mamba_proj_bias=True)
# One layer with the chunk of the released models, a sequence longer than it and many heads.
LONG = dict(mamba_chunk_size=256, num_hidden_layers=1, mamba_d_ssm=48, mamba_n_heads=24,
            mamba_d_head=2, vocab_size=31, hidden_size=24)
LLAMA = dict(
    vocab_size=37, hidden_size=24, intermediate_size=20, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, pad_token_id=None, bos_token_id=1,
    eos_token_id=2, max_position_embeddings=256, rms_norm_eps=1e-6, rope_parameters=ROPE_1E4)
PACKED = [[7, 1, 9, 4], [3, 13, 5]]  # lengths of the documents of each row

# name: (changes to BASE or LLAMA, B, T, further: documents, pad, decays, draw of the weights)
CASES = {
    "plain": ({}, 2, 16, {}),
    "groups2_norm": (GROUPS2, 2, 16, {"draw": 9}),
    "groups3": (GROUPS3, 1, 17, {}),
    "groups3_norm_before_gate": (dict(GROUPS3, mamba_norm_before_gate=True, **NORM), 1, 16, {}),
    "norm": (NORM, 2, 13, {}),
    "norm_before_gate": (dict(NORM, mamba_norm_before_gate=True), 2, 16, {}),
    "tied": (dict(tie_word_embeddings=True), 2, 16, {}),
    "tied_padding": (dict(tie_word_embeddings=True, pad_token_id=0), 2, 16, {"pad": 0}),
    "gqa1": (dict(num_key_value_heads=4, num_hidden_layers=1), 2, 16, {}),
    "gqa4": (dict(num_key_value_heads=1), 2, 16, {}),
    "biases": (dict(GROUPS2, **BIASES), 2, 16, {}),
    "clamp": (dict(time_step_limit=[0.05, 0.4], num_hidden_layers=1), 2, 16, {}),
    "padding": (dict(pad_token_id=5, num_hidden_layers=1), 2, 16, {"pad": 5}),
    "one_token": (NORM, 2, 1, {}),
    "shorter_than_conv": (NORM, 2, 3, {}),
    "ragged": (GROUPS2, 1, 37, {}),
    "odd_vocabulary": (dict(vocab_size=101, head_dim=16, num_attention_heads=2,
                            num_key_value_heads=1, rope_parameters=ROPE_1E4), 2, 16, {}),
    "multipliers": (dict(GROUPS2, **MULTIPLIERS), 2, 16, {}),
    "h1_34b": (SHAPE_34B, 1, 16, {}),
    "packed": (dict(num_key_value_heads=1), 2, 21, {"documents": PACKED}),
    "packed_norm_groups2": (dict(GROUPS2, **MULTIPLIERS, mamba_chunk_size=4), 2, 21,
                            {"documents": PACKED}),
    "chunk256": (dict(LONG, **NORM), 1, 300, {"decays": "start"}),
    "chunk256_large_dt": (dict(LONG, **GROUPS2), 1, 300,
                          {"decays": "large", "documents": [[3, 40, 257]]}),
    "bf16_plain": (dict(num_hidden_layers=1), 2, 16, {}),
    "bf16_norm": (GROUPS2, 2, 16, {}),
    "llama_mha": (dict(num_key_value_heads=None), 2, 16, {}),
    "llama_gqa": ({}, 2, 13, {}),
    "llama_mqa": (dict(num_key_value_heads=1), 2, 16, {}),
    "llama_tied": (dict(tie_word_embeddings=True, num_hidden_layers=1), 2, 16, {}),
    "llama_biases": (dict(attention_bias=True, mlp_bias=True), 2, 16, {}),
    "llama_head_dim": (dict(head_dim=10, num_hidden_layers=1), 2, 16, {}),
    "llama_odd_vocabulary": (dict(vocab_size=101, num_hidden_layers=1), 2, 16, {}),
    "llama_rope_theta": (dict(rope_parameters={"rope_type": "default", "rope_theta": 1000042.0}),
                         1, 61, {}),
    "llama_padding": (dict(pad_token_id=5, num_hidden_layers=1), 2, 16, {"pad": 5}),
    "llama_tied_padding": (dict(tie_word_embeddings=True, pad_token_id=0, num_hidden_layers=1),
                           2, 16, {"pad": 0}),
    "llama_packed": (dict(num_key_value_heads=1), 2, 21, {"documents": PACKED}),
}
# What one rounding of each module's output may move a gradient by, relative to its norm. Our ops are
# off by one to four roundings, a chain of 32 products by four, and the bound of run.cpp is 1e-5.
MOST_SENSITIVE = 1.2e-6


def model_of(name, changes):
    if name.startswith("llama_"):
        config = LlamaConfig(**{**LLAMA, **changes})
        config._attn_implementation = "eager"
        return LlamaForCausalLM(config).float().eval()
    config = FalconH1Config(**{**BASE, **changes})
    config._attn_implementation = "eager"
    return FalconH1ForCausalLM(config).float().eval()


def randomise(model, generator, scale):
    """Weights of a scale that gives no gradient a vanishing size."""
    def normal(p, std):
        p.copy_(torch.randn(p.shape, generator=generator) * std)

    def uniform(p, low, high):
        p.copy_(torch.rand(p.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("A_log"):
                uniform(p, -1.0, 1.2)
            elif name.endswith("dt_bias"):
                uniform(p, -2.5, 0.5)
            elif name.endswith(".D"):
                uniform(p, 0.5, 1.5)
            elif "norm" in name:
                uniform(p, 0.6, 1.4)
            elif name.endswith(".bias"):
                normal(p, 0.2)
            elif "conv1d" in name:
                normal(p, 2 * scale)
            elif "embed" in name:
                normal(p, 0.5)
            else:
                normal(p, scale)


def set_decays(model, kind):
    """As released models start: A = -1, -2, ... and dt from 0.001 to 0.1. Or with dt up to tens, so
    that dt A adds up to ten thousands over a chunk."""
    with torch.no_grad():
        for layer in model.model.layers:
            heads = layer.mamba.A_log.numel()
            layer.mamba.A_log.copy_(torch.log(torch.arange(1, heads + 1)))
            if kind == "start":
                dt = torch.logspace(-3, -1, heads).flip(0)
                layer.mamba.dt_bias.copy_(torch.log(torch.expm1(dt)))
            else:
                layer.mamba.in_proj.weight[-heads:] *= 20


@contextmanager
def in_double(model):
    """transformers asks for fp32 by name where it wants accuracy: here that means fp64."""
    single, method = torch.float32, torch.Tensor.float
    rotary, config = model.model.rotary_emb, model.config
    model.double()
    rotary.inv_freq = config.rope_parameters["rope_theta"] ** (
        -torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim)
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32 = torch.float = single
        torch.Tensor.float = method


def build(name, changes, draw=0):
    generator = torch.Generator().manual_seed(sum(name.encode()) + 1000 * len(name) + draw)
    model = model_of(name, changes)
    # Smaller weights where bf16 computes, so that rounding is not amplified from layer to layer.
    randomise(model, generator, 0.08 if name.startswith("bf16_") else 0.2)
    if name.startswith("bf16_"):
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p.bfloat16().float())
    return model, generator


def sensitivity(model, ids, documents, expected):
    """How far each gradient moves where the outputs of embeddings, norms and linear maps are off by as
    much as rounding to fp32: [(root mean square of the relative error, name)], largest first."""
    draws, generator = 8, torch.Generator().manual_seed(1)

    def disturb(module, inputs, output):
        noise = torch.rand(output.shape, generator=generator, dtype=output.dtype) - 0.5
        return output * (1 + 1.5 * 2.0 ** -24 * noise)

    hooks = [m.register_forward_hook(disturb) for m in model.modules()
             if isinstance(m, (torch.nn.Linear, torch.nn.Embedding)) or "Norm" in type(m).__name__]
    squares = {k: 0.0 for k in expected if k.startswith("grad.")}
    for _ in range(draws):
        moved = run(model, ids, documents)
        for k in squares:
            squares[k] += relative_error(moved[k], expected[k]) ** 2 / draws
    for hook in hooks:
        hook.remove()
    return sorted(((v ** 0.5, k) for k, v in squares.items()), reverse=True)


def save_model(folder, model):
    os.makedirs(folder, exist_ok=True)
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["architectures"] = [type(model).__name__]
    config["dtype"] = "float32"
    keep = ("pad_token_id",)  # null and absent differ: absent means 0
    for key in [k for k, v in config.items() if k.startswith("_") or v is None and k not in keep]:
        del config[key]
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1, sort_keys=True)
        f.write("\n")
    weights = {k: v.detach().contiguous().clone() for k, v in model.named_parameters()}
    save_file(weights, os.path.join(folder, "model.safetensors"), {"format": "pt"})


def make_case(name):
    changes, batch, length, further = CASES[name]
    model, generator = build(name, changes, further.get("draw", 0))
    if "decays" in further:
        set_decays(model, further["decays"])
    folder = os.path.join(HERE, name)
    vocabulary = model.config.vocab_size
    ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
    ids[0, -1] = vocabulary - 1  # the last row of the tables takes part
    if "pad" in further:
        ids[:, length // 3:length // 3 + 2] = further["pad"]
    tokens = {"input_ids": ids}
    documents = torch.zeros_like(ids)
    if "documents" in further:
        for b, lengths in enumerate(further["documents"]):
            documents[b] = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        tokens["document_ids"] = documents
    with in_double(model):
        expected = run(model, ids, documents)
        moves = sensitivity(model, ids, documents, expected) or [(0.0, "no gradient")]
    expected = {k: v.float() for k, v in expected.items()}
    if moves[0][0] > MOST_SENSITIVE:
        sys.exit(f"{name}: rounding moves {moves[0][1]} by {moves[0][0]:.1e}; give it another draw")
    save_model(folder, model.float())
    save_file(tokens, os.path.join(folder, "tokens.safetensors"))
    save_file(expected, os.path.join(folder, "expected.safetensors"))
    smallest = min([(float(v.norm()), k) for k, v in expected.items() if k != "loss"])
    print(f"{name:26s} loss {float(expected.get('loss', torch.zeros(1))):.4f} "
          f"smallest norm {smallest[0]:.1e} {smallest[1]}, moves {moves[0][0]:.1e} {moves[0][1]}")
    if name.startswith("bf16_"):  # what bounds in bf16 are made of, see run.cpp
        low = run(model.bfloat16(), ids, documents)
        off = sorted((relative_error(low[k], expected[k]), k) for k in expected)[::-1]
        print("    transformers' own distance in bf16: "
              + ", ".join(f"{e:.1e} {k}" for e, k in off[:3]))


# eps 1e-6: at 1e-8 the order of additions alone moves weights whose gradient is nearly zero.
RECIPE = dict(steps=10, batch=4, length=16, lr=1e-3, betas=[0.9, 0.95], eps=1e-6, weight_decay=0.1,
              clip=1.0, decayed="2-D weights only: no conv1d, no 1-D tensor")


def make_adamw():
    model, generator = build("adamw", dict(GROUPS2, pad_token_id=0))
    folder = os.path.join(HERE, "adamw")
    save_model(folder, model)
    ids = torch.randint(0, model.config.vocab_size,
                        (RECIPE["steps"], RECIPE["batch"], RECIPE["length"]), generator=generator)
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=RECIPE["weight_decay"]),
                                   dict(params=others, weight_decay=0.0)], lr=RECIPE["lr"],
                                  betas=RECIPE["betas"], eps=RECIPE["eps"], foreach=False)
    losses, norms = [], []
    for step in range(RECIPE["steps"]):
        documents = torch.zeros_like(ids[step])
        optimizer.zero_grad(set_to_none=True)
        logits, _ = forward(model, ids[step], documents)
        loss = token_loss(logits, default_labels(ids[step], documents))
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE["clip"])))
        optimizer.step()
        losses.append(float(loss.detach()))
    save_file({"input_ids": ids}, os.path.join(folder, "steps.safetensors"))
    save_file({k: v.detach().contiguous().clone() for k, v in model.named_parameters()},
              os.path.join(folder, "expected.safetensors"))
    with open(os.path.join(folder, "recipe.json"), "w") as f:
        json.dump(dict(RECIPE, losses=losses, gradient_norms=norms), f, indent=1)
        f.write("\n")
    print("adamw losses", [round(x, 4) for x in losses], "norms", [round(x, 3) for x in norms])


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[1:] or [*CASES, "adamw"]:
        make_adamw() if name == "adamw" else make_case(name)


if __name__ == "__main__":
    main()
