"""Activations for the default SAEs: the model runs once over a text, and its activations are stored in float16.

Matrix products are in bfloat16 where the hardware has instructions for it: under autocast ("mixed") the weights and the
residual stream stay float32, so the activations, and the model's fingerprint, are those of the float32 model up to
rounding. The distance from float32 is measured and written beside the cache. A layer's token filter is fitted once, in
float32, so that all caches of the layer leave out the same tokens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import saekit as sk
from saekit.activations import kept_activations
from saekit.atomic_io import write_json
from saekit.json_files import read_json

from ..results import load_results
from . import mixture

LENGTH = 256
"""Tokens in a window."""
N_CHECKED_WINDOWS = 12
"""Windows on which the distance from float32 is measured."""
MATMUL_DTYPES = ("mixed", "bfloat16", "float32")


def hook(layer: int) -> str:
    """The residual stream after a layer."""
    return f"blocks.{layer}.hook_resid_post"


def fast_matmul_dtype() -> str:
    """mixed on a GPU and on a CPU with bfloat16 instructions, else float32."""
    flags = Path("/proc/cpuinfo")
    has = flags.exists() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))
    return "mixed" if has or torch.cuda.is_available() else "float32"


@contextmanager
def running(matmul_dtype: str) -> Iterator[sk.LanguageModel]:
    """The default model, with matrix products of that kind within the block."""
    model = sk.load_model(dtype=torch.bfloat16 if matmul_dtype == "bfloat16" else torch.float32)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=matmul_dtype == "mixed"):
        yield model


def token_filters(folder: Path, layers: Sequence[int]) -> list[sk.TokenFilter]:
    """The token filter of each layer, fitted on the mixture the first time and kept in token_filters.json."""
    path = folder / "token_filters.json"
    known = load_results(path)
    if missing := [layer for layer in layers if str(layer) not in known]:
        model = sk.load_model()
        windows = sk.tokenize(mixture.load(folder, "mixture", 64 * LENGTH), model, length=LENGTH)
        for layer in missing:
            known[str(layer)] = sk.fit_token_filter(model, windows, hook(layer)).to_dict()
        write_json(path, known)
    return [sk.TokenFilter.from_dict(known[str(layer)]) for layer in layers]


def report_path(cache: Path) -> Path:
    """The file beside a cache that says how it was made."""
    return cache.with_name(f"{cache.name}-harvest.json")


def matmul_dtype_of(report: dict[str, Any]) -> str:
    """The kind of matrix products in a report; earlier reports call it products."""
    return str(report["matmul_dtype"] if "matmul_dtype" in report else report["products"])


def harvest(
    corpus: sk.Corpus, layers: Sequence[int], filters: Sequence[sk.TokenFilter], out: Path, matmul_dtype: str | None
) -> sk.ActivationCache:
    """The activations of `corpus` after these layers in the folder `out`; shards that are there are not made again."""
    matmul_dtype = matmul_dtype or fast_matmul_dtype()
    with running(matmul_dtype) as model:
        windows = sk.tokenize(corpus, model, length=LENGTH)
        hooks = hook(layers[0]) if len(layers) == 1 else tuple(map(hook, layers))
        joined = sk.TokenFilter.joined(filters, [model.hook_width(hook(layer)) for layer in layers])
        report = report_path(out)
        if not report.exists():
            distances = [] if matmul_dtype == "float32" else distance(windows, layers, joined, matmul_dtype)
            write_json(report, {"matmul_dtype": matmul_dtype, "layers": list(layers), "distance": distances})
        elif (before := matmul_dtype_of(read_json(report))) != matmul_dtype:
            raise SystemExit(f"{out} was started with {before}: pass --matmul-dtype {before}, or another --out")
        started = time.perf_counter()
        cache = sk.cache_activations(model, windows, hooks, out, token_filter=joined, dtype="float16")
    print(f"{cache}\n  matrix products {matmul_dtype}, {time.perf_counter() - started:.0f} s", flush=True)
    return cache


def distance(
    windows: sk.Windows, layers: Sequence[int], joined: sk.TokenFilter, matmul_dtype: str
) -> list[dict[str, float]]:
    """How far the activations are from float32's on a few windows: a row per layer."""
    rows = torch.linspace(0, len(windows) - 1, min(N_CHECKED_WINDOWS, len(windows))).long()
    hooks = tuple(map(hook, layers)) if len(layers) > 1 else hook(layers[0])
    runs = []
    for kind in (matmul_dtype, "float32"):
        with running(kind) as model:
            runs.append(kept_activations(model, windows, rows, hooks, joined))
    (position, x), (exact_position, exact) = runs
    x, exact = x[torch.isin(position, exact_position)], exact[torch.isin(exact_position, position)]
    found = []
    for layer, a, b in zip(layers, x.chunk(len(layers), 1), exact.chunk(len(layers), 1), strict=True):
        relative = float(((a - b).norm(dim=1) / b.norm(dim=1)).median())
        explained = 1 - float((a - b).square().sum() / (b - b.mean(0)).square().sum())
        print(f"layer {layer}: relative error {relative:.4f}, explained variance {explained:.5f} against float32")
        found.append({"layer": layer, "relative_error": relative, "explained_variance": explained, "n": len(b)})
    return found
