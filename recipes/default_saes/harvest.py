"""Activations for the default SAEs: the model runs once over a text and what it computes goes to the disk.

Products are in bfloat16 where that pays, as on CPUs with AVX512-BF16 or AMX: under autocast ("mixed") the weights and
the residual stream stay float32, so the activations are those of the float32 model to within a rounding, and so is
its fingerprint. How far they are from float32 is measured and written beside the cache. Which tokens count is settled
once for a layer, in float32, and remembered in rules.json, so that all caches of a layer leave out the same tokens.
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
from saekit.atomic_io import read_json, write_json

from . import mixture

LENGTH = 256
"""Tokens in a window."""
CHECKED_WINDOWS = 12
PRODUCTS = ("mixed", "bfloat16", "float32")


def hook(layer: int) -> str:
    return f"blocks.{layer}.hook_resid_post"


def fast_products() -> str:
    """The products that pay here: mixed on a GPU or a CPU with instructions for bfloat16, else float32."""
    flags = Path("/proc/cpuinfo")
    has = flags.exists() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))
    return "mixed" if has or torch.cuda.is_available() else "float32"


@contextmanager
def running(products: str) -> Iterator[sk.LanguageModel]:
    """The default model, and products of that kind while it is used."""
    model = sk.load_model(dtype=torch.bfloat16 if products == "bfloat16" else torch.float32)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=products == "mixed"):
        yield model


def token_filters(folder: Path, layers: Sequence[int]) -> list[sk.TokenFilter]:
    """The token filter of each layer; found on the mixture the first time."""
    path = folder / "rules.json"
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    if missing := [layer for layer in layers if str(layer) not in known]:
        model = sk.load_model()
        windows = sk.tokenize(mixture.load(folder, "mixture", 64 * LENGTH), model, length=LENGTH)
        for layer in missing:
            known[str(layer)] = sk.fit_token_filter(model, windows, hook(layer)).to_dict()
        write_json(path, known)
    return [sk.TokenFilter.from_dict(known[str(layer)]) for layer in layers]


def report_of(cache: Path) -> Path:
    """Where it is written how a cache was made."""
    return cache.with_name(f"{cache.name}-harvest.json")


def harvest(
    corpus: sk.Corpus, layers: Sequence[int], rules: Sequence[sk.TokenFilter], out: Path, products: str | None = None
) -> sk.ActivationCache:
    """The activations of `corpus` after these layers, in float16 in the folder `out`; what is there is passed over."""
    products = products or fast_products()
    with running(products) as model:
        windows = sk.tokenize(corpus, model, length=LENGTH)
        hooks = hook(layers[0]) if len(layers) == 1 else tuple(map(hook, layers))
        token_filter = sk.TokenFilter.joined(rules, [model.hook_width(hook(layer)) for layer in layers])
        report = report_of(out)
        if not report.exists():
            distances = [] if products == "float32" else distance(windows, layers, token_filter, products)
            out.parent.mkdir(parents=True, exist_ok=True)
            write_json(report, {"products": products, "layers": list(layers), "distance": distances})
        elif (before := read_json(report)["products"]) != products:
            raise SystemExit(f"{out} was begun with {before} products: pass --products {before}, or another --out")
        started = time.perf_counter()
        cache = sk.cache_activations(model, windows, hooks, out, token_filter=token_filter, dtype="float16")
    print(f"{cache}\n  {products} products, {time.perf_counter() - started:.0f} s", flush=True)
    return cache


def distance(
    windows: sk.Windows, layers: Sequence[int], token_filter: sk.TokenFilter, products: str
) -> list[dict[str, float]]:
    """How far activations with such products are from float32's on a few windows, a row for each layer."""
    rows = torch.linspace(0, len(windows) - 1, min(CHECKED_WINDOWS, len(windows))).long()
    hooks = tuple(map(hook, layers)) if len(layers) > 1 else hook(layers[0])
    runs = []
    for kind in (products, "float32"):
        with running(kind) as model:
            runs.append(kept_activations(model, windows, rows, hooks, token_filter))
    (position, x), (exact_position, exact) = runs
    x, exact = x[torch.isin(position, exact_position)], exact[torch.isin(exact_position, position)]
    found = []
    for layer, a, b in zip(layers, x.chunk(len(layers), 1), exact.chunk(len(layers), 1), strict=True):
        relative = float(((a - b).norm(dim=1) / b.norm(dim=1)).median())
        explained = 1 - float((a - b).square().sum() / (b - b.mean(0)).square().sum())
        print(f"layer {layer}: relative error {relative:.4f}, explained variance {explained:.5f} against float32")
        found.append({"layer": layer, "relative_error": relative, "explained_variance": explained, "n": len(b)})
    return found
