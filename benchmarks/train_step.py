"""What one training step costs, as a multiple of the encoder product x @ W_enc alone.

    python benchmarks/train_step.py [--threads 2] [--steps 8] [--batch 2048]

Prints a table and one JSON line. Product and step are timed in turn and the fastest of each is kept, so that other work
on the machine disturbs the ratio as little as it can.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

import saekit as sk

D_IN, K = 576, 32


def measure(activation: str, d_sae: int, batch: int, n_steps: int) -> dict[str, object]:
    """Milliseconds of the product and of the step, after two steps to warm up."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(512, D_IN, generator=generator)  # correlated, as activations are
    sae = sk.SAE(sk.SAEConfig(d_in=D_IN, d_sae=d_sae, activation=activation, k=K))
    trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=1000 * batch, batch_size=batch))
    product, step = [], []
    for i in range(n_steps + 2):
        x = torch.randn(batch, 512, generator=generator).relu() @ directions
        with torch.no_grad():
            began = time.perf_counter()
            x @ trainer._sae.W_enc
            between = time.perf_counter()
        trainer.step(x)
        ended = time.perf_counter()
        if i >= 2:
            product.append(1e3 * (between - began))
            step.append(1e3 * (ended - between))
    return {
        "activation": activation, "d_sae": d_sae, "product_ms": round(min(product), 1), "step_ms": round(min(step), 1),
        "ratio": round(min(step) / min(product), 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2048)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    print(f"d_in {D_IN}, k {K}, batch {args.batch}, {args.threads} threads, torch {torch.__version__}")
    print(f"{'rule':10} {'d_sae':>6} {'product ms':>11} {'step ms':>9} {'ratio':>6}")
    for activation in ("topk", "batchtopk"):
        for d_sae in (4096, 16_384):
            rows.append(row := measure(activation, d_sae, args.batch, args.steps))
            print(f"{activation:10} {d_sae:6} {row['product_ms']:11} {row['step_ms']:9} {row['ratio']:6}", flush=True)
    print(json.dumps({"benchmark": "train_step", "batch": args.batch, "threads": args.threads, "rows": rows}))


if __name__ == "__main__":
    main()
