"""Writes tests/assets/losses again. Run from the repository root after a change that is meant to move the losses:

python -m tests.rewrite_losses
"""

from __future__ import annotations

import torch

from tests.test_training import ARCHITECTURES, LOSSES, golden_run


def main() -> None:
    torch.set_num_threads(1)
    for activation in ARCHITECTURES:
        _, metrics, _ = golden_run(activation)
        (LOSSES / f"{activation}.txt").write_text("".join(f"{m.loss:.7g}\n" for m in metrics))


if __name__ == "__main__":
    main()
