"""The class-conditional transformer of Peebles and Xie 2023 in eager torch: the peer that `launch.bench_dit` times.

Enters: a folder with weights, batch and draws as arrays, written by our side. Weights carry our names, in torch's
layout. Functions on a dict of tensors, with as little Python around the kernels as torch allows: one fused attention,
fused AdamW, norms and averages over lists of tensors.
"""
from collections.abc import Callable
from pathlib import Path


def predict(weights: dict, facts: dict, x, told, label, places):
    """Patches `b n p`, features of the noise level `b w` and labels `b` → the prediction `b n p`."""
    from torch.nn import functional as F

    def layer(name, x):
        return F.linear(x, weights[f"{name}/kernel"], weights[f"{name}/bias"])

    condition = layer("time_out", F.silu(layer("time_in", told))) + F.embedding(label, weights["text/table"])
    condition = F.silu(condition)
    x = layer("embed", x) + places
    for i in range(facts["depth"]):
        x = block(lambda name, x, i=i: layer(f"blocks/{i}/{name}", x), x, condition, facts["heads"])
    shift, scale = layer("head_modulation", condition).unsqueeze(1).chunk(2, dim=-1)
    return layer("head", modulated(x, shift, scale))


def block(layer: Callable, x, condition, heads: int):
    """adaLN-Zero: attention and MLP, each modulated before and gated after."""
    from torch.nn import functional as F

    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = layer("modulation", condition).unsqueeze(1).chunk(6, dim=-1)
    b, n, d = x.shape
    qkv = layer("qkv", modulated(x, shift_a, scale_a)).view(b, n, 3, heads, d // heads)
    mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0))
    x = x + gate_a * layer("out", mixed.transpose(1, 2).reshape(b, n, d))
    risen = F.gelu(layer("up", modulated(x, shift_m, scale_m)), approximate="tanh")
    return x + gate_m * layer("down", risen)


def modulated(x, shift, scale):
    """Layer norm without gains, then the scale and shift of the condition."""
    from torch.nn import functional as F
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def features(t, width: int):
    """[cos, sin] of 1000 t at half as many frequencies as `width`, from 1 down towards 1 / 10 000."""
    import math

    import torch
    frequency = torch.exp(-math.log(1e4) * torch.arange(width // 2) / (width // 2))
    angle = 1000 * t[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def load(folder: Path) -> tuple[dict, dict]:
    """(weights, everything else) as tensors; matrices are turned and the stack of layers is taken apart."""
    import numpy as np
    import torch

    weights, rest = {}, {}
    for name, array in np.load(folder / "case.npz").items():
        kind, _, path = name.partition("/")
        if kind != "weights":
            rest[name] = torch.from_numpy(array)
            continue
        stacked = path.startswith("blocks/")
        for i, one in enumerate(array if stacked else [array]):
            own = path.replace("blocks/", f"blocks/{i}/") if stacked else path
            one = one.T if path.endswith("/kernel") else one
            weights[own] = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(one)))
    return weights, rest


def trainer(folder: Path, facts: dict) -> tuple[Callable, Callable]:
    """(updates(count), check()): updates on draws of torch's own, and the losses of the first ones on ours."""
    import torch
    from torch.nn import functional as F

    weights, given = load(folder)
    leaves = list(weights.values())
    average = [leaf.detach().clone() for leaf in leaves]
    rule = torch.optim.AdamW(leaves, lr=facts["lr"], betas=(facts["beta1"], facts["beta2"]), eps=facts["eps"],
                             weight_decay=0.0, fused=True)
    done = 0

    def update(t, eps, label):
        nonlocal done
        x0, far = given["x0"], t[:, None, None]
        rule.zero_grad()
        out = predict(weights, facts, (1 - far) * x0 + far * eps, features(t, facts["time_width"]), label,
                      given["places"])
        loss = F.mse_loss(out, eps - x0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, facts["clip"], foreach=True)
        rule.step()
        done += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, leaves, 1 - (1 - 1 / done) ** (facts["gamma"] + 1))
        return loss

    def updates(count):
        for _ in range(count):
            label = torch.where(torch.rand(len(given["label"])) < facts["drop"], facts["classes"], given["label"])
            loss = update(torch.rand(len(label)), torch.randn_like(given["x0"]), label)
        return loss.item()

    def check():
        return [update(*draw).item() for draw in zip(given["t"], given["eps"], given["labels"], strict=True)]
    return updates, check


def sampler(folder: Path, facts: dict) -> tuple[Callable, Callable]:
    """(samples(count), check()): guided Euler steps from our noise, both predictions in one batch; the latents."""
    import torch

    weights, given = load(folder)
    label = torch.cat([given["label"], torch.full_like(given["label"], facts["classes"])])
    times = given["times"]

    @torch.no_grad()
    def sample():
        x = given["noise"]
        for now, then in zip(times[:-1], times[1:], strict=True):
            told = features(now.expand(len(label)), facts["time_width"])
            asked, free = predict(weights, facts, torch.cat([x, x]), told, label, given["places"]).chunk(2)
            x = x + (then - now) * (free + facts["guidance"] * (asked - free))
        return x

    def samples(count):
        for _ in range(count):
            x = sample()
        return x.sum().item()

    return samples, lambda: sample().flatten()[:: facts["thin"]].tolist()
