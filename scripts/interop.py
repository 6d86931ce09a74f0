"""Checks our SAE files in the real SAELens, and SAELens' files in ours.

    .venv/bin/python scripts/interop.py [--write KIND ...]

SAELens 6.54 refuses TransformerLens 4, so it gets an environment of its own, .venv-interop/, made on the first run.
Both sides write a small SAE of every architecture; each reads the other's and encodes the same 2,000 activations.
Features and reconstructions must agree to 1e-5 of the largest. Exits with 1 when they do not. With --write SAELens'
files of these kinds and what it made of some activations are kept in tests/interop/, where the ordinary tests read
them.

SAELens' batchtopk and matryoshka_batchtopk exist in training only: they are compared as the jumprelu SAEs that its
save_inference_model writes at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-interop"
PINS = ("torch==2.13.0", "sae-lens==6.54.12")
TOLERANCE = 1e-5
N_TOKENS, N_STEPS, N_KEPT = 2000, 300, 20
D_IN, D_SAE, D_OUT, L0 = 24, 96, 20, 6
THEIRS = (
    "standard",
    "topk",
    "topk-rescaled",
    "jumprelu",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
    "gated",
    "gated-without-b-dec",
    "batchtopk",
    "matryoshka_batchtopk",
)

OTHER_SIDE = """
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sae_lens import SAE
from sae_lens.saes import batchtopk_sae as bt
from sae_lens.saes import matryoshka_batchtopk_sae as mb
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes import transcoder as tc
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

folder = Path(sys.argv[1])
x = load_file(folder / "x.safetensors")["x"]

def record(sae, name):
    with torch.no_grad():
        acts = sae.encode(x)
        save_file({"acts": acts.contiguous(), "x_hat": sae(x).contiguous()}, folder / f"{name}.saelens")

for path in sorted((folder / "ours").iterdir()):
    record(SAE.load_from_disk(path), path.name)

torch.manual_seed(1)

def write(made):
    for name, sae in made.items():
        with torch.no_grad():
            for weight in sae.parameters():
                weight.copy_(0.3 * torch.randn_like(weight))
        sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name = "blocks.1.hook_resid_post", "gpt2"
        if "transcoder" in name:
            sae.cfg.metadata.hook_name_out = "blocks.1.hook_mlp_out"
        if "batchtopk" in name:
            sae.topk_threshold.fill_(1.25)
            sae.save_inference_model(folder / "theirs" / name)
            sae = SAE.load_from_disk(folder / "theirs" / name)
        else:
            sae.save_model(folder / "theirs" / name)
        record(sae, f"theirs-{name}")

sizes = dict(d_in=x.shape[1], d_sae=96)
write({
    "standard": StandardSAE(StandardSAEConfig(**sizes)),
    "topk": TopKSAE(TopKSAEConfig(**sizes, k=6)),
    "topk-rescaled": TopKSAE(TopKSAEConfig(**sizes, k=6, rescale_acts_by_decoder_norm=True)),
    "jumprelu": JumpReLUSAE(JumpReLUSAEConfig(**sizes, apply_b_dec_to_input=False)),
})
sizes |= dict(d_out=20, apply_b_dec_to_input=False)
write({
    "transcoder": tc.Transcoder(tc.TranscoderConfig(**sizes)),
    "skip_transcoder": tc.SkipTranscoder(tc.SkipTranscoderConfig(**sizes)),
    "jumprelu_transcoder": tc.JumpReLUTranscoder(tc.JumpReLUTranscoderConfig(**sizes)),
    "jumprelu_skip_transcoder": tc.JumpReLUSkipTranscoder(tc.JumpReLUSkipTranscoderConfig(**sizes)),
})
sizes = dict(d_in=x.shape[1], d_sae=96)
write({
    "gated": GatedSAE(GatedSAEConfig(**sizes)),
    "gated-without-b-dec": GatedSAE(GatedSAEConfig(**sizes, apply_b_dec_to_input=False)),
    "batchtopk": bt.BatchTopKTrainingSAE(bt.BatchTopKTrainingSAEConfig(**sizes, k=6)),
    "matryoshka_batchtopk": mb.MatryoshkaBatchTopKTrainingSAE(
        mb.MatryoshkaBatchTopKTrainingSAEConfig(**sizes, k=6, matryoshka_widths=[24, 96])
    ),
})
"""


def environment() -> Path:
    """The interpreter of SAELens' own environment, made when it is not there."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / "pins.json"
    if not done.is_file() or json.loads(done.read_text()) != list(PINS):
        print(f"setting up {ENVIRONMENT.name} with {', '.join(PINS)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        for pin in PINS:  # torch first: sae-lens alone would bring another build
            subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", pin], check=True)
        done.write_text(json.dumps(PINS))
    return python


def main() -> int:
    import saekit as sk

    parser = argparse.ArgumentParser()
    parser.add_argument("--write", nargs="+", choices=THEIRS, default=(), metavar="KIND", help=", ".join(THEIRS))
    kinds_to_keep = parser.parse_args().write
    python = environment()
    generator = torch.Generator().manual_seed(0)
    x = 5 * torch.randn(N_TOKENS, D_IN, generator=generator) + 1
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file({"x": x}, folder / "x.safetensors")
        configs = ours(sk)
        for kind, config in configs.items():
            trained(sk, config, x).save(folder / "ours" / kind)
        (folder / "other_side.py").write_text(OTHER_SIDE)
        subprocess.run([str(python), "-W", "ignore", str(folder / "other_side.py"), name], check=True)
        for kind in configs:
            rows.append((f"ours, {kind}", *compare(sk, x, folder / "ours" / kind, folder / f"{kind}.saelens")))
        for kind in THEIRS:
            rows.append(
                (f"SAELens, {kind}", *compare(sk, x, folder / "theirs" / kind, folder / f"theirs-{kind}.saelens"))
            )
        keep(folder, kinds_to_keep)
    print(f"{'written by':34} {'l0':>6} {'features differ':>16} {'x_hat differs':>14}")
    for label, l0, acts, x_hat in rows:
        print(f"{label:34} {l0:6.1f} {acts:16.1e} {x_hat:14.1e}")
    worst = max(max(r[2:]) for r in rows)
    print(
        f"{'agree' if worst <= TOLERANCE else 'DO NOT AGREE'}: largest difference {worst:.1e}, allowed {TOLERANCE:.0e}"
    )
    return 0 if worst <= TOLERANCE else 1


def keep(folder: Path, kinds: Sequence[str]) -> None:
    """Copies what SAELens wrote, and its features of the first few tokens, into tests/interop/."""
    kept = ROOT / "tests" / "interop"
    x = load_file(folder / "x.safetensors")["x"]
    for kind in kinds:
        shutil.copytree(folder / "theirs" / kind, kept / kind, dirs_exist_ok=True)
        made = load_file(folder / f"theirs-{kind}.saelens")
        few = {"x": x[:N_KEPT], "acts": made["acts"][:N_KEPT], "x_hat": made["x_hat"][:N_KEPT]}
        save_file({name: tensor.contiguous() for name, tensor in few.items()}, kept / kind / "expected.safetensors")


def ours(sk: Any) -> dict[str, Any]:
    """The SAEConfigs to write, by the name of their folder.

    Every kind of every architecture that SAELens reads; each also without b_dec on its input and, where SAELens has
    them, as a transcoder with and without a skip; and one as a crosscoder.
    """
    from saekit.sae.kinds import every_kind

    here = {"d_in": D_IN, "d_sae": D_SAE, "model_name": "gpt2"}
    found = {
        name.replace(" ", "_").replace("-", "_"): config
        for name, config in every_kind(L0, hook_name="h", **here).items()
        if config.architecture.in_saelens
    }
    plain: dict[str, Any] = {}
    for config in found.values():
        plain.setdefault(config.activation, config)
    for name, config in plain.items():
        found[f"{name}_without_b_dec"] = config.replace(apply_b_dec_to_input=False)
        if config.architecture.saelens_transcoders:
            found[f"{name}_transcoder"] = config.replace(d_out=D_OUT, hook_out="out")
            found[f"{name}_skip_transcoder"] = config.replace(d_out=D_OUT, hook_out="out", skip=True)
    return found | {"crosscoder": sk.SAEConfig(hook_name=("a", "b"), k=L0, **here)}


def trained(sk: Any, config: Any, x: Tensor) -> Any:
    """A small SAE that has gone through training, normalisation and all."""
    blocks = (16, 8) if config.is_crosscoder else None
    length = sk.TrainConfig(n_tokens=N_STEPS * 200, batch_size=200)
    trainer = sk.Trainer(sk.SAE(config), length, blocks=blocks)
    target = (3 * x[:, :D_OUT] - x[:, D_IN - D_OUT :]).relu()
    for step in range(N_STEPS):
        at = slice(200 * (step % 10), 200 * (step % 10 + 1))
        trainer.step(x[at], *([target[at]] if config.is_transcoder else []))
    return trainer.finish()


def compare(sk: Any, x: Tensor, saved: Path, record: Path) -> tuple[float, float, float]:
    """l0, and the largest differences in units of the largest value."""
    theirs = load_file(record)
    sae = sk.load_sae(saved)
    with torch.no_grad():
        acts = sae.encode(x)
        x_hat = sae(x).x_hat
    return (
        float((acts != 0).sum(1).float().mean()),
        float((acts - theirs["acts"]).abs().max() / theirs["acts"].abs().max()),
        float((x_hat - theirs["x_hat"]).abs().max() / theirs["x_hat"].abs().max()),
    )


if __name__ == "__main__":
    sys.exit(main())
