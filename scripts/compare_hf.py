#!/usr/bin/env python3
"""Compares the output of `falcon-train probe` with Hugging Face transformers on the same tokens.

  falcon-train probe MODEL_DIR --tokens TOKENS.safetensors --out OUT.safetensors --gradients
  scripts/compare_hf.py MODEL_DIR --tokens TOKENS.safetensors --probe-output OUT.safetensors

Packages: torch, transformers (5.17.0 is what the golden files were made with), safetensors.
transformers runs in fp32 on the CPU through its plain torch path. It knows no documents, so each
document runs alone and the logits are put together again. Prints the relative L2 error of
every tensor and exits with 1 where one is above its bound.
"""
import argparse
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

# A gradient this small holds rounding only; it is compared absolutely.
TINY_NORM = 1e-7


def document_ranges(row):
    """[begin, end) of each run of equal document ids."""
    cuts = [0] + [t for t in range(1, len(row)) if row[t] != row[t - 1]] + [len(row)]
    return list(zip(cuts[:-1], cuts[1:]))


def default_labels(ids, documents):
    """Unshifted labels as transformers takes them: -100 where no token of the document precedes."""
    labels = ids.clone()
    labels[:, 0] = -100
    labels[:, 1:][documents[:, 1:] != documents[:, :-1]] = -100
    return labels


def forward(model, ids, documents, hidden=False):
    """Logits [B, T, V] and, if asked for, the hidden states [L + 1] of [B, T, d]."""
    # transformers' gated norm drops the time axis of single tokens, so [B > 1, 1] comes out as
    # [B, B]: rows of one token run alone, too.
    if ids.shape[1] > 1 and bool((documents == documents[:, :1]).all()):
        out = model(input_ids=ids, use_cache=False, output_hidden_states=hidden)
        return out.logits, list(out.hidden_states) if hidden else []
    rows, states = [], []
    for b in range(ids.shape[0]):
        parts = [model(input_ids=ids[b:b + 1, i:j], use_cache=False, output_hidden_states=hidden)
                 for i, j in document_ranges(documents[b].tolist())]
        rows.append(torch.cat([p.logits for p in parts], 1))
        if hidden:
            states.append([torch.cat(h, 1) for h in zip(*(p.hidden_states for p in parts))])
    return torch.cat(rows), [torch.cat(h) for h in zip(*states)]


def token_loss(logits, labels):
    """Mean cross entropy over valid labels; None where there is none."""
    valid = labels[:, 1:] != -100
    if not bool(valid.any()):
        return None
    return F.cross_entropy(logits[:, :-1][valid].float(), labels[:, 1:][valid])


def run(model, ids, documents, labels=None, gradients=True, hidden=False):
    """What probe writes: logits, loss, grad.<name>, hidden.<layer>."""
    model.zero_grad(set_to_none=True)
    logits, states = forward(model, ids, documents, hidden)
    loss = token_loss(logits, default_labels(ids, documents) if labels is None else labels)
    out = {"logits": logits.detach().float().contiguous()}
    for l, h in enumerate(states):
        out[f"hidden.{l}"] = h.detach().float().contiguous()
    if loss is None:
        return out
    out["loss"] = loss.detach().float().reshape(1)
    if gradients:
        loss.backward()
        for name, p in model.named_parameters():  # a tied head is listed once
            out["grad." + name] = p.grad.detach().float().contiguous().clone()
    return out


def relative_error(got, expected):
    got, expected = got.double().flatten(), expected.double().flatten()
    scale = float(expected.norm())
    return float((got - expected).norm()) / (1.0 if scale < TINY_NORM else scale)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face folder")
    parser.add_argument("--tokens", required=True, help="input_ids, optional document_ids, labels")
    parser.add_argument("--probe-output", required=True, help="what falcon-train probe wrote")
    parser.add_argument("--bound", type=float, default=1e-5, help="largest relative error (1e-5)")
    args = parser.parse_args()

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    tokens, got = load_file(args.tokens), load_file(args.probe_output)
    ids = tokens["input_ids"].long()
    documents = tokens.get("document_ids", torch.zeros_like(ids)).long()
    labels = tokens["labels"].long() if "labels" in tokens else None
    want = run(model, ids, documents, labels,
               gradients=any(k.startswith("grad.") for k in got),
               hidden=any(k.startswith("hidden.") for k in got))

    bad = 0
    for name in sorted(want):
        if name not in got:
            print(f"{name:60s} missing from {args.probe_output}")
            bad += 1
        elif got[name].numel() != want[name].numel():
            print(f"{name:60s} shape {list(got[name].shape)}, expected {list(want[name].shape)}")
            bad += 1
        else:
            error = relative_error(got[name], want[name])
            high = not error <= args.bound  # NaN counts as high
            bad += high
            print(f"{name:60s} {error:.2e}{'  above the bound' if high else ''}")
    for name in sorted(set(got) - set(want)):
        if not name.startswith("loss"):
            print(f"{name:60s} not known to transformers")
            bad += 1
    print(f"{len(want)} tensors, {bad} bad, bound {args.bound:g}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
