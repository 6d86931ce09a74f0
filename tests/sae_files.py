"""Tensors of small SAEs, and what every file of them is checked for; their formulas are in the tests that use these."""

from __future__ import annotations

import json

import torch

import saekit as sk

D, N, K = 8, 32, 4


def randoms(seed=0, **shapes):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def tensors(d_out=D, seed=0):
    w = randoms(seed, W_enc=(D, N), W_dec=(N, d_out), b_enc=(N,), b_dec=(d_out,), threshold=(N,))
    w["threshold"] = w["threshold"].abs() * 0.5
    return w


def inputs(n=50):
    return randoms(9, x=(n, D))["x"] * 3 + 1


def json_file(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def kept(pre, k):
    """The k largest of each row, one by one."""
    out = torch.zeros_like(pre)
    for row, values in enumerate(pre.tolist()):
        for column in sorted(range(len(values)), key=lambda i: -values[i])[:k]:
            out[row, column] = max(values[column], 0.0)
    return out


def check(sae, x, acts, x_hat):
    assert not any(p.requires_grad for p in sae.parameters())
    torch.testing.assert_close(sae.encode(x), acts, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.encode_sparse(x).to_dense(), acts, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.encode_features(x, [3, 1]), acts[:, [3, 1]], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae(x).x_hat, x_hat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae.decode(sae.encode_sparse(x), x), x_hat, rtol=1e-4, atol=1e-4)


def comes_back(sae, folder):
    """Saved in SAELens' layout and loaded, it is the same."""
    back = sk.load_sae(sae.save(folder))
    assert (back.config, back.fingerprint) == (sae.config, sae.fingerprint)
    assert torch.equal(back.encode(inputs()), sae.encode(inputs()))
