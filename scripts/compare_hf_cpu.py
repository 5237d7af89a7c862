#!/usr/bin/env python3
"""Training speed of falcon-train and of Hugging Face transformers on the CPU, side by side.

  scripts/compare_hf_cpu.py --binary build/cpu/falcon-train --threads 2 --out speed.json

For each case (quickstart, tiny-512, tiny-2048) one run measures, on the same weights, tokens and
threads: transformers' FalconH1ForCausalLM as it is, the same with its scan written as einsums (the
same mathematics without its largest temporaries), and `falcon-train train`. A step is forward,
backward and AdamW. First losses are printed, so that one sees it is the same model; tokens/s are
the best step and the median without the first. Speed of sgemm (the library's and torch's) is
measured before each case: model FLOPs are given as a fraction of the faster one.

Packages: torch, transformers (5.17), numpy. transformers' own scan takes about a minute a step at
tiny-512 on two cores: --hf-steps 1 times its first step.
"""
import argparse
import contextlib
import ctypes
import ctypes.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CASES = {  # configuration, sequences, tokens of each
    "quickstart": ("quickstart", 8, 256),
    "tiny-512": ("falcon-h1-tiny-90m", 1, 512),
    "tiny-2048": ("falcon-h1-tiny-90m", 1, 2048),
}
LEARNING_RATE, WEIGHT_DECAY, BETAS, EPS = 1e-4, 0.1, (0.9, 0.95), 1e-6


# ---- the peer -------------------------------------------------------------------------------

def einsum_scan(hidden_states, dt, A, B, C, chunk_size, D=None, dt_bias=None, initial_states=None,
                dt_softplus=False, dt_limit=(0.0, float("inf")), return_final_states=False,
                **_):
    """transformers' mamba2_chunk_scan with products in place of broadcasts; training only."""
    assert initial_states is None and not return_final_states
    einsum_scan.calls += 1
    b, length, h, p = hidden_states.shape
    g, n = B.shape[2], B.shape[3]
    q, dtype = chunk_size, torch.float32
    if dt_bias is not None:
        dt = dt + dt_bias.to(dt.dtype)
    if dt_softplus:
        dt = F.softplus(dt)
    dt = torch.clamp(dt, min=dt_limit[0], max=dt_limit[1]).to(dtype)
    x = hidden_states.to(dtype)
    pad = -length % q

    def chunks(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, pad))
        return t.view(b, -1, q, *t.shape[2:])

    u = chunks(x * dt[..., None]).view(b, -1, q, g, h // g, p)
    B, C = chunks(B.to(dtype)), chunks(C.to(dtype))
    cs = torch.cumsum(chunks(A.to(dtype) * dt), dim=2).permute(0, 1, 3, 2)  # [b, c, h, q]
    cs = cs.reshape(b, -1, g, h // g, q)
    lower = torch.ones(q, q, dtype=torch.bool, device=x.device).tril()
    decay = torch.exp((cs[..., :, None] - cs[..., None, :]).masked_fill(~lower, -torch.inf))
    scores = torch.einsum("bcign,bcjgn->bcgij", C, B)
    y = torch.einsum("bcgrij,bcjgrp->bcigrp", scores[:, :, :, None] * decay, u)
    out_decay = torch.exp(cs[..., -1:] - cs).permute(0, 1, 4, 2, 3)  # [b, c, q, g, r]
    own = torch.einsum("bcjgn,bcjgrp->bcgrnp", B, u * out_decay[..., None])
    carry = torch.exp(cs[..., -1])
    state, entering = torch.zeros_like(own[:, 0]), []
    for c in range(own.shape[1]):
        entering.append(state)
        state = carry[:, c, ..., None, None] * state + own[:, c]
    through = torch.einsum("bcign,bcgrnp->bcigrp", C, torch.stack(entering, 1))
    y = y + through * torch.exp(cs).permute(0, 1, 4, 2, 3)[..., None]
    y = y.reshape(b, -1, h, p)[:, :length]
    return y + D[:, None] * x if D is not None else y


einsum_scan.calls = 0


@contextlib.contextmanager
def scan_replaced():
    """transformers with einsum_scan; fails where the model did not call it."""
    from transformers.models.falcon_h1 import modeling_falcon_h1 as module
    own, module.mamba2_chunk_scan = module.mamba2_chunk_scan, einsum_scan
    before = einsum_scan.calls
    try:
        yield
        if einsum_scan.calls == before:
            sys.exit("transformers did not call its scan by the name we replaced")
    finally:
        module.mamba2_chunk_scan = own


def train_hf(folder, tokens, batch, length, precision, steps):
    """Seconds of each step and the first loss."""
    from transformers import FalconH1ForCausalLM
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = FalconH1ForCausalLM.from_pretrained(folder, dtype=dtype).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPS,
                                  weight_decay=WEIGHT_DECAY)
    seconds, losses = [], []
    for step in range(steps):
        rows = [tokens[(step * batch + i) * length:][:length + 1] for i in range(batch)]
        rows = torch.tensor(rows, dtype=torch.long)
        begin = time.perf_counter()
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - begin)
        losses.append(loss.item())
    return seconds, losses[0]


# ---- ours -----------------------------------------------------------------------------------

def train_ours(binary, folder, data, work, case, precision, steps, threads, ranks=1):
    """Seconds of each step, the first loss and the model FLOPs of a token."""
    _, batch, length = CASES[case]
    tokens = steps * batch * length * ranks
    name = f"{case}-{precision}-{ranks}x{threads}"
    config = f"""run: {{name: {name}, directory: {work}/runs, threads: {threads}}}
model: {{init_from: {folder}}}
data: {{sequence_length: {length}, train: [{{path: {data}, name: text}}]}}
train: {{tokens: {tokens}, global_batch: {batch * ranks}, micro_batch: {batch},
  precision: {precision}, residual: {precision}}}
optimizer: {{lr: {LEARNING_RATE}, betas: [{BETAS[0]}, {BETAS[1]}], eps: {EPS},
  weight_decay: {WEIGHT_DECAY}, clip: 1.0}}
schedule: {{type: constant}}
"""
    path = f"{work}/{name}.yaml"
    with open(path, "w") as file:
        file.write(config)
    command = [binary, "train", path]
    if ranks > 1:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] + command
    environment = dict(os.environ)
    if os.geteuid() == 0:  # Open MPI asks root, as in a container, to say it twice
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    with open(f"{work}/runs/{name}/metrics.jsonl") as file:
        records = [json.loads(line) for line in file]
    records = [r for r in records if "seconds" in r]
    with open(f"{work}/runs/{name}/log.txt") as file:
        flops = float(re.search(r"model \(3 x forward\) ([0-9.e+]+)", file.read()).group(1))
    return [r["seconds"] for r in records], records[0]["loss"], flops


# ---- weights, tokens, ceilings --------------------------------------------------------------

def save_model(config_name, folder):
    """A transformers folder of the configuration's shape with random weights."""
    import yaml
    from transformers import FalconH1Config, FalconH1ForCausalLM
    with open(f"{ROOT}/configs/{config_name}.yaml") as file:
        shape = yaml.safe_load(file)["model"]
    shape = {k: v for k, v in shape.items() if k not in ("layer_pattern", "init", "init_from")}
    torch.manual_seed(0)
    FalconH1ForCausalLM(FalconH1Config(**shape)).save_pretrained(folder)


def make_tokens(binary, work, count):
    """One document of bytes, longer than all steps together; its tokens."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(97, 123, (count,), generator=generator).tolist()
    with open(f"{work}/text.txt", "wb") as file:
        file.write(bytes(tokens))
    subprocess.run([binary, "tokenize", f"{work}/text.txt", "--out", f"{work}/set"], check=True,
                   stdout=subprocess.DEVNULL)
    return tokens, f"{work}/set"


def best_rate(call, flops, repeats=6):
    best = 0.0
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        best = max(best, flops / (time.perf_counter() - begin))
    return best * 1e-9


def sgemm_rates(threads, size=2048):
    """GFLOP/s of torch and of oneDNN (in a process of its own: torch carries another oneDNN)."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    rates = {"torch": best_rate(lambda: torch.mm(a, b), 2.0 * size ** 3)}
    name = ctypes.util.find_library("dnnl")
    if name:
        code = f"""
import ctypes, time
lib, n = ctypes.CDLL("{name}"), {size}
f, i = ctypes.c_float, ctypes.c_int64
a, b, c = ((f * (n * n))(*([0.5] * n * n)) for _ in range(3))
call = lib.dnnl_sgemm
call.argtypes = [ctypes.c_char] * 2 + [i] * 3 + [f, ctypes.c_void_p, i, ctypes.c_void_p, i, f,
                                              ctypes.c_void_p, i]
best = 0
for _ in range(6):
    t = time.perf_counter()
    call(b"N", b"N", n, n, n, 1, a, n, b, n, 0, c, n)
    best = max(best, 2.0 * n ** 3 / (time.perf_counter() - t) * 1e-9)
print(best)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        if done.returncode == 0:
            rates["oneDNN"] = float(done.stdout)
    return rates


# ---- the comparison -------------------------------------------------------------------------

def rates_of(seconds, tokens):
    timed = seconds[1:] or seconds
    return {"best": tokens / min(timed), "median": tokens / statistics.median(timed),
            "steps": len(timed)}


def compare(case, args, work):
    config, batch, length = CASES[case]
    folder, per_step = f"{work}/{config}", batch * length
    if not os.path.exists(folder):
        save_model(config, folder)
    tokens, data = make_tokens(args.binary, work, (max(args.steps, args.hf_steps) * 2 + 1) * per_step)
    sgemm = sgemm_rates(args.threads)
    ceiling = max(sgemm.values())
    print(f"{case}: {batch} x {length} tokens, {args.threads} threads; sgemm GFLOP/s "
          + ", ".join(f"{k} {v:.1f}" for k, v in sgemm.items()), flush=True)
    result = {"sgemm_gflops": sgemm, "rows": []}

    def row(what, precision, seconds, loss, extra=""):
        rate = rates_of(seconds, per_step)
        print(f"  {what:24s} {precision}  loss {loss:.5f}  best {rate['best']:9.1f} tok/s  median "
              f"{rate['median']:9.1f}  ({rate['steps']} steps){extra}", flush=True)
        result["rows"].append({"what": what, "precision": precision, "loss": loss, **rate})
        return rate["best"]

    for precision in args.precision:
        seconds, loss, flops = train_ours(args.binary, folder, data, work, case, precision,
                                          args.steps, args.threads)
        achieved = flops * per_step / min(seconds[1:] or seconds) * 1e-9
        result["model_flops_per_token"] = flops
        ours = row("falcon-train", precision, seconds, loss,
                   f"  {achieved:.1f} model GFLOP/s = {achieved / ceiling:.2f} of sgemm")
        with scan_replaced():
            seconds, einsum_loss = train_hf(folder, tokens, batch, length, precision, args.steps_hf())
        fair = row("transformers, einsum", precision, seconds, einsum_loss)
        print(f"  falcon-train / einsum form: {ours / fair:.2f}x", flush=True)
        if not args.skip_own_scan:
            seconds, hf_loss = train_hf(folder, tokens, batch, length, precision, args.hf_steps)
            own = row("transformers", precision, seconds, hf_loss)
            print(f"  falcon-train / transformers: {ours / own:.2f}x", flush=True)
            bound = 1e-5 if precision == "fp32" else 1e-2
            for other, value in (("einsum form", einsum_loss), ("falcon-train", loss)):
                if abs(value - hf_loss) > bound * abs(hf_loss):
                    sys.exit(f"{case}: the loss of the {other} is {value}, transformers' {hf_loss}")
    if args.ranks:
        one, two = (train_ours(args.binary, folder, data, work, case, "fp32", args.steps, 1, ranks)
                    for ranks in (1, 2))
        speedup = 2 * min(one[0][1:]) / min(two[0][1:])
        print(f"  2 ranks x 1 thread / 1 rank x 1 thread: {speedup:.2f}x", flush=True)
        result["two_ranks"] = speedup
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=f"{ROOT}/build/cpu/falcon-train")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"],
                        choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=6, help="of falcon-train and the einsum form")
    parser.add_argument("--hf-steps", type=int, default=2, help="of transformers as it is")
    parser.add_argument("--skip-own-scan", action="store_true", help="the einsum form alone")
    parser.add_argument("--ranks", action="store_true", help="also two ranks against one")
    parser.add_argument("--out", help="JSON file for the numbers")
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    args.steps_hf = lambda: max(2, min(args.steps, 4))
    torch.set_num_threads(args.threads)
    results = {}
    with tempfile.TemporaryDirectory() as work:
        for case in args.cases:
            results[case] = compare(case, args, work)
    if args.out:
        with open(args.out, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
