"""Everything that a GPU is to show, in one command: kernels, tiles, and every function against the CPU.

    python scripts/gpu_check.py                                        # a CUDA GPU; --device mps for another one
    python scripts/gpu_check.py --device cpu                           # dtypes alone

1. `saekit doctor --recheck`: each Triton kernel against its reference, with its largest difference.
2. Which tiles are quickest for two sizes of SAE, by timing on the device.
3. Every function that runs a model or an SAE, with both on two devices and in three dtypes, against float32 on the CPU.
   Two small random models are built in place; nothing is downloaded. One function that fails does not hide the others:
   the traceback is printed, then a table. TOLERANCE says how far a result may be from the CPU's in float32, as the
   length of the difference over the length of the result.

The last line is one of JSON with all of it. The exit status is 1 where anything failed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gpu_check_functions import MODELS, checks, difference, numbers, random_sae

import saekit as sk
from saekit.sae import triton as triton_kernels
from saekit.sae.triton import tiles
from saekit.sae.triton.device_key import device_key

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
SIZES = ((576, 16_384, 32), (2304, 65_536, 64))
"""d_in, d_sae and k of the SAEs whose tiles are timed."""


def kernels(device: str) -> dict[str, Any]:
    """Whether each kernel is right on a device, and what each choice of tiles takes; printed, and as JSON."""
    diagnosis = sk.doctor(recheck=True)
    print(diagnosis)
    found: dict[str, Any] = {"in_order": bool(diagnosis), "self_check": None, "tiles": []}
    if not diagnosis.checks or torch.device(device).type != "cuda":
        return found
    check = diagnosis.checks[torch.device(device).index or 0]
    found["self_check"] = {"passed": check.passed, "reason": check.reason, **asdict(check)}
    if check.passed:
        found["tiles"] = [asdict(t) for t in time_tiles(device)]
    for timing in found["tiles"]:
        print(f"{timing['size']}: {timing['chosen']}")
        print(*(f"  {label:20} {1e3 * s:8.3f} ms" for label, s in timing["seconds"].items()), sep="\n")
        print(*(f"  {label:20} left out: {why}" for label, why in timing["dropped"].items()), sep="\n")
    return found


def time_tiles(device: str, n: int = 16_384) -> list[tiles.TileTiming]:
    """Every timing that is kept about the device, after those of SIZES were made."""
    for d_in, d_sae, k in SIZES:
        x, W = (torch.randn(rows, d_in, device=device).bfloat16() for rows in (n, d_sae))
        b_enc = torch.zeros(d_sae, device=device)
        triton_kernels.top_k(x, W, b_enc, k, dtype=torch.bfloat16)
        triton_kernels.top_of_batch(x, W, b_enc, n * k, dtype=torch.bfloat16)
    return list(tiles.timings(device_key(torch.device(device))).values())


def run(kind: str, devices: tuple[str, str], dtypes: tuple[torch.dtype, torch.dtype]) -> dict[str, tuple[Any, str]]:
    """(numbers, what went wrong) of every function, for one model and one SAE."""
    out: dict[str, tuple[Any, str]] = {}
    model = MODELS[kind](devices[0], dtypes[0])
    saes = [random_sae(model, seed).to(device=devices[1], dtype=dtypes[1]) for seed in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        for name, check in checks(model, saes[0], saes[1], Path(folder)):
            try:
                out[name] = numbers(check()), ""
            except Exception as e:  # one failure must not hide the others
                print(f"---- {kind} {devices} {dtypes}: {name}")
                traceback.print_exc(limit=-4)
                out[name] = None, f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--seconds", type=float, default=230, help="cases that have not begun by then are left out")
    args = parser.parse_args()
    torch.set_num_threads(4)
    on_device = kernels(args.device)
    start, failed, rows = time.perf_counter(), 0, []
    f32, f16, bf16 = torch.float32, torch.float16, torch.bfloat16
    both = [("cpu", "cpu")] if args.device == "cpu" else [(args.device, "cpu"), ("cpu", args.device)]
    cases = [(d, (f32, f32)) for d in both] + [(d, t) for t in ((bf16, f32), (bf16, bf16), (f16, f32)) for d in both]
    expected = {kind: run(kind, ("cpu", "cpu"), (f32, f32)) for kind in args.models}
    for devices, dtypes in cases:
        for kind in args.models:
            title = f"{kind}: model {devices[0]} {dtypes[0]}, SAE {devices[1]} {dtypes[1]}".replace("torch.", "")
            if time.perf_counter() - start > args.seconds:
                rows.append(f"NOT RUN  {title}")
                failed += 1
                continue
            limit, n_right = max(TOLERANCE[t] for t in dtypes), 0
            for name, (found, wrong) in run(kind, devices, dtypes).items():
                far = difference(found, expected[kind][name][0])
                wrong = wrong or expected[kind][name][1] or (f"differs by {far:.2g}" if not far <= limit else "")
                n_right += not wrong
                if wrong:
                    rows.append(f"FAILED   {title}: {name}: {wrong[:150]}")
                    failed += 1
            rows.append(f"passed   {title}: {n_right} functions")
    print("\n".join(rows))
    print(f"{failed} failed, {time.perf_counter() - start:.0f} s, torch {torch.__version__}")
    summary = {"check": "gpu", "device": args.device, "torch": torch.__version__, **on_device}
    print(json.dumps(summary | {"n_failed": failed, "functions": rows}))
    return 1 if failed or not on_device["in_order"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
