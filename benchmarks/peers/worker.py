"""One library's own training loop, held at every batch until asked to continue. Runs in that library's environment.

    python benchmarks/peers/worker.py '{"library": "saelens", "d_in": 576, "d_sae": 1024, "k": 32, ...}'

Orders come as lines of JSON on stdin, answers go to stdout; what the library prints goes to stderr. Only torch and the
library named are imported. The loop is the library's: it asks for a batch as it would ask its data loader, and from
handing one over to being asked for the next is its training step: forward, loss, backward, clipping, optimiser,
decoder norms, schedules, bookkeeping. Its data loading, logging and checkpoints are off. No feature is dead in so few
steps, so no library's auxiliary loss has anything to do. What runs:

    saekit               sk.Trainer.advance and .metrics on every batch (on CUDA .metrics on every tenth)
    saelens              SAETrainer.fit on a TopKTrainingSAE: dense activations, loss summed over d_in, torch's Adam,
                         gradient norm clipped to 1, features that fired counted over [batch, d_sae]
    saelens, sparse      the same with use_sparse_activations, SAELens' option for float32, and without its default
                         rescale_acts_by_decoder_norm, whose backward pass fails on sparse activations
    saelens, fast        the same with autocast (bfloat16) and training_forward_pass compiled, as its runner does it
    dictionary_learning  trainSAE with TopKTrainer and AutoEncoderTopK: dense activations, torch's Adam, parallel part
                         of the decoder's gradient removed, clipping to 1, decoder rows divided by their norm
    sparsify             Trainer.fit on a SparseCoder at a hook of a stand-in model that returns the batch: its fused
                         encoder and sparse decoder, gradients by index_add; its default optimiser, sign descent with
                         momentum in a schedule-free wrapper, no auxiliary loss, no clipping
    sparsify, adam       the same with optimizer="adam" (torch's, when bitsandbytes is not there) and auxk_alpha=1/32
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import memory
import torch
from torch import Tensor, nn

N_STEPS = 10**6  # more than anyone asks for: schedules stay at their beginning
UNTIMED = {"cpu": 0, "cuda": 2}  # steps before those that are timed, while a GPU's memory is taken again
PACKAGES = {
    "saekit": "saekit",
    "saelens": "sae-lens",
    "dictionary_learning": "dictionary-learning",
    "sparsify": "eai-sparsify",
}


class Enough(Exception):  # noqa: N818 - a signal, not an error
    """Raised to leave a library's loop."""


def saekit(case: dict[str, Any], batches: Iterator[Tensor]) -> None:
    import saekit as sk

    sizes = {name: case[name] for name in ("d_in", "d_sae", "k")}
    config = sk.TrainConfig(n_tokens=N_STEPS * case["batch"], batch_size=case["batch"], device=case["device"])
    trainer = sk.Trainer(sk.SAE(sk.SAEConfig(**sizes, activation=case.get("architecture", "topk"))), config)
    every = 10 if case["device"] == "cuda" else 1
    for i, x in enumerate(batches):
        trainer.advance(x)
        if i % every == every - 1:
            trainer.metrics()


def saelens(case: dict[str, Any], batches: Iterator[Tensor]) -> None:
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    fast = case["variant"] == "fast"
    sizes = {name: case[name] for name in ("d_in", "d_sae", "k", "device")}
    sparse = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(**sizes, **(sparse if case["variant"] == "sparse" else {})))
    if fast:
        sae.training_forward_pass = torch.compile(sae.training_forward_pass)
    config = SAETrainerConfig(
        total_training_samples=N_STEPS * case["batch"],
        train_batch_size_samples=case["batch"],
        autocast=fast,
        device=case["device"],
        lr_end=3e-5,
    )
    SAETrainer(cfg=config, sae=sae, data_provider=batches).fit()


def dictionary_learning(case: dict[str, Any], batches: Iterator[Tensor]) -> None:
    from dictionary_learning.trainers.top_k import TopKTrainer
    from dictionary_learning.training import trainSAE

    trainer = {
        "trainer": TopKTrainer,
        "steps": N_STEPS,
        "activation_dim": case["d_in"],
        "dict_size": case["d_sae"],
        "k": case["k"],
        "layer": 0,
        "lm_name": "none",
        "device": case["device"],
    }
    trainSAE(data=batches, trainer_configs=[trainer], steps=N_STEPS, device=case["device"])


def sparsify(case: dict[str, Any], batches: Iterator[Tensor]) -> None:
    from sparsify.config import SparseCoderConfig, TrainConfig
    from sparsify.trainer import Trainer

    class Layer(nn.Module):
        """The hook point: its output is the batch, whatever it is given."""

        x = torch.zeros(1, 1, case["d_in"])

        def forward(self, ids: Tensor) -> Tensor:
            return self.x

    class Model(nn.Module):
        """As much of a Transformers model as the trainer looks at."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = Layer()
            self.device = torch.device(case["device"])
            self.dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}

        @property
        def base_model(self) -> nn.Module:
            return self

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.layer(input_ids)

    model = Model()

    class Texts:
        """A data set whose only text is as long as the batch."""

        def __len__(self) -> int:
            return N_STEPS

        def __getitem__(self, i: int) -> dict[str, Tensor]:
            model.layer.x = next(batches)[None]
            return {"input_ids": torch.zeros(case["batch"], dtype=torch.long)}

    adam = {"optimizer": "adam", "auxk_alpha": 1 / 32} if case["variant"] == "adam" else {}
    coder = SparseCoderConfig(num_latents=case["d_sae"], k=case["k"])
    config = TrainConfig(coder, batch_size=1, hookpoints=["layer"], log_to_wandb=False, save_every=10**9, **adam)
    Trainer(config, Texts(), model).fit()


class Orders:
    """Batches for a training loop. Asked for the next, it says how long the last took and waits for permission to
    continue."""

    def __init__(self, case: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
        self.device, self.say = case["device"], say
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(512, case["d_in"], generator=generator)  # correlated, as activations are
        made = [torch.randn(case["batch"], 512, generator=generator).relu() @ directions for _ in range(4)]
        self.batches = [x.to(self.device) for x in made]
        self.W_enc = torch.randn(case["d_in"], case["d_sae"], generator=generator).to(self.device)
        self.n_left = self.n = self.n_given = self.peak = self.held = 0
        self.began = 0.0

    def __iter__(self) -> Orders:
        return self

    def __next__(self) -> Tensor:
        if self.n_left == 0:
            if self.n:
                took = self.now() - self.began
                self.peak = max(self.peak, memory.peak(self.device) - self.held)
                if self.device == "cuda":
                    torch.cuda.empty_cache()  # the others need the room
                self.say({"step_ms": 1e3 * took / self.n})
            self.n = self.wait()
            self.n_left = self.n + UNTIMED[self.device]
            memory.restart(self.device)
        if self.n_left == self.n:
            self.began = self.now()
        self.n_left -= 1
        self.n_given += 1
        return self.batches[self.n_given % len(self.batches)]

    def wait(self) -> int:
        """How many steps to continue for."""
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "step":
                return int(order["n"])
            if order["do"] == "product":
                self.say({"product_ms": self.product(order["n"])})
            elif order["do"] == "peak":
                self.say({"peak_bytes": self.peak})
        raise Enough

    @torch.no_grad()
    def product(self, n: int) -> float:
        """Milliseconds of x @ W_enc, the output's allocation included."""
        began = self.now()
        for i in range(n):
            self.batches[i % len(self.batches)] @ self.W_enc
        return 1e3 * (self.now() - began) / n

    def now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def few(case: dict[str, Any]) -> Iterator[Tensor]:
    """Two batches, then the end: what a library loads and compiles on first use is not counted as an SAE's memory."""
    for _ in range(2):
        yield torch.randn(case["batch"], case["d_in"], device=case["device"])
    raise Enough


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    case = json.loads(sys.argv[1])
    torch.set_num_threads(case["threads"])
    train = {f.__name__: f for f in (saekit, saelens, dictionary_learning, sparsify)}[case["library"]]
    orders = Orders(case, say)
    tiny = {**case, "d_sae": 2048, "k": 8, "batch": 128}
    with contextlib.suppress(Enough):
        train(tiny, few(tiny))
    version = importlib.metadata.version(PACKAGES[case["library"]])
    say({"version": version, "torch": torch.__version__})
    orders.held = memory.held(case["device"])
    with contextlib.suppress(Enough):
        train(case, orders)


if __name__ == "__main__":
    main()
