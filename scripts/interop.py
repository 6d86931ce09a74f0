"""Checks our SAE files in the real SAELens, and SAELens' files in ours.

    .venv/bin/python scripts/interop.py [--write]

SAELens 6.54 refuses TransformerLens 4, so it gets an environment of its own, .venv-interop/, made on the first run.
Both sides write a small SAE of every rule; each reads the other's and encodes the same activations. Features and
reconstructions must agree to 1e-5. Exits with 1 when they do not. With --write SAELens' files and what it made of the
activations are kept in tests/interop/, where the ordinary tests read them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-interop"
PINS = ("torch==2.13.0", "sae-lens==6.54.12")
TOLERANCE = 1e-5
RULES = ("relu", "topk", "batchtopk", "jumprelu")
TRANSCODERS = {  # SAELens has them of two rules; a finished batchtopk one is of the jumprelu rule
    "transcoder": {"activation": "relu"}, "skip_transcoder": {"activation": "relu", "skip": True},
    "jumprelu_transcoder": {"activation": "jumprelu"}, "batchtopk_transcoder": {"activation": "batchtopk", "k": 6},
    "jumprelu_skip_transcoder": {"activation": "jumprelu", "skip": True},
}  # fmt: skip
OURS = (*RULES, *TRANSCODERS, "crosscoder")
THEIRS = (
    "standard", "topk", "topk-rescaled", "jumprelu", "transcoder", "skip_transcoder", "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
)  # fmt: skip

OTHER_SIDE = """
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sae_lens import SAE
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

    python = environment()
    generator = torch.Generator().manual_seed(0)
    x = 5 * torch.randn(200, 24, generator=generator) + 1
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file({"x": x}, folder / "x.safetensors")
        for rule in OURS:
            trained(sk, rule, x).save(folder / "ours" / rule)
        (folder / "other_side.py").write_text(OTHER_SIDE)
        subprocess.run([str(python), "-W", "ignore", str(folder / "other_side.py"), name], check=True)
        for rule in OURS:
            rows.append((f"ours, {rule}", *compare(sk, x, folder / "ours" / rule, folder / f"{rule}.saelens")))
        for kind in THEIRS:
            rows.append(
                (f"SAELens, {kind}", *compare(sk, x, folder / "theirs" / kind, folder / f"theirs-{kind}.saelens"))
            )
        if "--write" in sys.argv[1:]:
            keep(folder)
    print(f"{'written by':34} {'l0':>6} {'features differ':>16} {'x_hat differs':>14}")
    for label, l0, acts, x_hat in rows:
        print(f"{label:34} {l0:6.1f} {acts:16.1e} {x_hat:14.1e}")
    worst = max(max(r[2:]) for r in rows)
    print(
        f"{'agree' if worst <= TOLERANCE else 'DO NOT AGREE'}: largest difference {worst:.1e}, allowed {TOLERANCE:.0e}"
    )
    return 0 if worst <= TOLERANCE else 1


def keep(folder: Path) -> None:
    """Copies what SAELens wrote, and its features of the first 20 tokens, into tests/interop/."""
    kept = ROOT / "tests" / "interop"
    x = load_file(folder / "x.safetensors")["x"]
    for kind in THEIRS:
        shutil.copytree(folder / "theirs" / kind, kept / kind, dirs_exist_ok=True)
        made = load_file(folder / f"theirs-{kind}.saelens")
        few = {"x": x[:20], "acts": made["acts"][:20], "x_hat": made["x_hat"][:20]}
        save_file({name: tensor.contiguous() for name, tensor in few.items()}, kept / kind / "expected.safetensors")


def trained(sk, rule, x):
    """A small SAE of the rule that has gone through training, normalisation and all; jumprelu is made by hand."""
    fields = {"d_in": 24, "d_sae": 96, "activation": rule, "hook_name": "h", "model_name": "gpt2"}
    fields |= {"k": 6} if rule.endswith("topk") else {}
    if rule in TRANSCODERS:
        fields |= {"d_out": 20, "hook_out": "out", **TRANSCODERS[rule]}
    elif rule == "crosscoder":
        fields |= {"activation": "batchtopk", "k": 6, "hook_name": ("a", "b")}
    if fields["activation"] == "relu":
        fields["sparsity_coefficient"] = 0.5
    sae = sk.SAE(sk.SAEConfig(**fields))
    if fields["activation"] == "jumprelu":
        with torch.no_grad():
            sae.threshold += torch.rand(96)
            sae.b_dec += 1.0
            if sae.config.skip:
                sae.W_skip += 0.1 * torch.randn(24, 20)
        return sae
    blocks = (16, 8) if rule == "crosscoder" else None
    trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=200 * 50, batch_size=200, lr=3e-3), blocks=blocks)
    target = ((3 * x[:, :20] - x[:, 4:]).relu(),) if rule in TRANSCODERS else ()
    for _ in range(50):
        trainer.step(x, *target)
    return trainer.finish()


def compare(sk, x, saved, record):
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
