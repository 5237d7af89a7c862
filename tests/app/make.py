#!/usr/bin/env python3
"""Makes tests/app/golden/*_defaults.json: what transformers takes where config.json is silent.

  python3 tests/app/make.py

Package: transformers==5.17.0 (Llama: 5.24.0). From one config.json with a value for every key, each key in turn is
left out, and then null. A case is that change and what the family's config then resolves otherwise than
for the whole file ("but"). Values that stay null and fail in the model ("open") are not compared,
and files that transformers refuses are left out.
"""
import json
import os
import sys

from transformers import FalconH1Config, LlamaConfig

HERE = os.path.dirname(os.path.abspath(__file__))
FULL = dict(
    vocab_size=96, tie_word_embeddings=True, hidden_size=64, intermediate_size=40,
    num_hidden_layers=3, num_attention_heads=16, num_key_value_heads=4, head_dim=6,
    hidden_act="silu", initializer_range=0.03, rms_norm_eps=2e-5, pad_token_id=5, bos_token_id=6,
    eos_token_id=[3, 4], max_position_embeddings=77, rope_theta=5e5, attention_dropout=0.0,
    attention_bias=True, mlp_bias=True, projectors_bias=True, mamba_d_ssm=384, mamba_n_heads=8,
    mamba_d_head="auto", mamba_n_groups=2, mamba_d_state=6, mamba_d_conv=3, mamba_expand=3,
    mamba_chunk_size=12, mamba_conv_bias=False, mamba_proj_bias=True, mamba_norm_before_gate=False,
    mamba_rms_norm=True, time_step_limit=[0.01, 9.0], lm_head_multiplier=0.1,
    embedding_multiplier=0.2, key_multiplier=0.3, attention_in_multiplier=0.4,
    attention_out_multiplier=0.5, ssm_in_multiplier=0.6, ssm_out_multiplier=0.7,
    mlp_multipliers=[0.8, 0.9], ssm_multipliers=[1.1, 1.2, 1.3, 1.4, 1.5])
FULL_LLAMA = dict(
    model_type="llama", vocab_size=96, tie_word_embeddings=True, hidden_size=64,
    intermediate_size=40, num_hidden_layers=3, num_attention_heads=16, num_key_value_heads=4,
    head_dim=6, hidden_act="silu", initializer_range=0.03, rms_norm_eps=2e-5, pad_token_id=5,
    bos_token_id=6, eos_token_id=[3, 4], max_position_embeddings=77, rope_theta=5e5,
    attention_dropout=0.0, attention_bias=True, mlp_bias=True)
ROPE = [  # where the base of the rotary positions may stand
    {"rope_parameters": {"rope_type": "default", "rope_theta": 7e4}},
    {"rope_parameters": {"rope_type": "default"}},
    {"rope_parameters": {"rope_theta": 7e4}, "rope_theta": 3e4},
    {"rope_parameters": {"rope_type": "default"}, "rope_theta": 3e4},
    {"rope_scaling": {"rope_type": "default"}, "rope_parameters": {"rope_theta": 7e4}},
    {"rope_scaling": {"type": "default", "rope_theta": 6e4}},
    {"rope_scaling": None, "rope_theta": 3e4},
    {"rope_parameters": None}, {"rope_parameters": {}},
]


def resolved(family, full, config):
    made = family(**json.loads(json.dumps({k: v for k, v in config.items() if k != "model_type"})))
    out = {key: getattr(made, key, None) for key in full if key != "rope_theta"}
    out["rope_theta"] = made.rope_parameters.get("rope_theta")
    if out["head_dim"] is None:
        out["head_dim"] = made.hidden_size // made.num_attention_heads
    eos = out["eos_token_id"]
    out["eos_token_id"] = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if "time_step_limit" in full:
        out["time_step_limit"] = out["time_step_limit"] and [
            "Infinity" if x == float("inf") else x for x in out["time_step_limit"]]
    for key, value in full.items():
        if isinstance(value, bool):
            out[key] = bool(out[key])  # null: no
    return out


def make(name, family, full):
    whole = resolved(family, full, full)
    keys = [key for key in full if key != "model_type"]
    changes = [(keys, {})] + [([key], {}) for key in keys]
    changes += [([], {key: None}) for key in keys if key != "head_dim"]
    changes += [(["rope_theta"], rope) for rope in ROPE]
    cases = []
    for without, changed in changes:
        config = {**{k: v for k, v in full.items() if k not in without}, **changed}
        try:
            but = {k: v for k, v in resolved(family, full, config).items() if v != whole[k]}
        except Exception as error:  # noqa: BLE001
            print("refused by transformers:", changed, "-", str(error).splitlines()[-1][:80])
            continue
        unset = [k for k, v in but.items() if v is None and k not in ("pad_token_id", "bos_token_id")]
        but = {k: v for k, v in but.items() if k not in unset}
        cases.append({"without": without, "with": changed, "but": but, "open": unset})
    path = os.path.join(HERE, "golden", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write('{"config": ' + json.dumps(full) + ',\n"resolved": ' + json.dumps(whole) +
                   ',\n"cases": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]}\n")
    print(name, len(cases), "cases")


def main():
    for name in sys.argv[1:] or ["config_defaults.json", "llama_defaults.json"]:
        llama = name.startswith("llama")
        make(name, LlamaConfig if llama else FalconH1Config, FULL_LLAMA if llama else FULL)


if __name__ == "__main__":
    main()
