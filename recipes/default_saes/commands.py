"""`python -m recipes default-saes ...`: a command for each step from an empty folder to packaged SAEs.

Each command only reads its arguments and calls the step's module, which is imported then, so that --help is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import MAIN_LAYER

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Three SAEs on one layer of the default model: text, activations, training, judging, packaging.",
    epilog="Commands are listed in the order in which they run. A command that was stopped resumes when it is run "
    "again: finished results in FOLDER are kept. A GPU is used where there is one.",
)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    return tuple(int(n) for n in text.split(","))


def fractions(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(float(n) for n in text.split(","))


def integers(help: str) -> Any:
    """An option that takes whole numbers with commas between them."""
    return typer.Option(help=help, parser=whole_numbers, metavar="N,N,...")


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where everything that the recipe makes is kept.")]
Sae = Annotated[Path, typer.Argument(metavar="SAE", help="The folder of a trained SAE.")]
Cache = Annotated[str, typer.Option(help="The activations in FOLDER.")]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="each SAE's own")]
MatmulDtype = Annotated[
    str | None,
    typer.Option(help="Matrix products of the model: mixed, bfloat16 or float32.", show_default="the fastest here"),
]
EvidenceTokens = Annotated[int, typer.Option(help="Tokens of the text that trained SAEs are judged on.")]
JudgedTokens = Annotated[int, typer.Option(help="Tokens that fidelity is measured on.")]
Packaged = Annotated[
    Path | None, typer.Option(help="Where the packaged SAEs are.", show_default="saekit/pretrained/...")
]
Steering = Annotated[bool, typer.Option(help="Whether the concepts' features are also clamped.")]


@app.command()
def own_text(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder, usually FOLDER/own.")],
    seed: int = 0,
    part: Annotated[int, typer.Option(help="Which process this is, from 0, when several write.")] = 0,
    of: Annotated[int, typer.Option(help="How many processes write.")] = 1,
) -> None:
    """Sample the text that the model writes itself, over several hundred topics."""
    from .own_text import write_own_text

    write_own_text(out, seed, part, of)


@app.command()
def gather(
    folder: Folder,
    own: Annotated[Path | None, typer.Option(help="Text of `own-text`.", show_default="FOLDER/own")] = None,
    packages: Annotated[Path | None, typer.Option(help="Fetched packages.", show_default="FOLDER/packages")] = None,
) -> None:
    """Gather the model's own text and that of packages, and split it."""
    from . import mixture

    mixture.build(folder, own or folder / "own", packages or folder / "packages")


@app.command()
def layers(folder: Folder) -> None:
    """After which layer the model can be steered to mention a bridge, without an SAE."""
    from . import layers

    print(layers.table(layers.measure(folder)))


@app.command()
def harvest(
    folder: Folder,
    layers: Annotated[Any, integers("Layers after which activations are stored.")] = str(MAIN_LAYER),
    n_tokens: Annotated[int | None, typer.Option(help="A part in which every source is in proportion.")] = None,
    out: Annotated[str, typer.Option(help="The activations' folder in FOLDER.")] = "activations",
    matmul_dtype: MatmulDtype = None,
) -> None:
    """Run the model over the training text once and store its activations."""
    from . import harvest, mixture

    filters = harvest.token_filters(folder, layers)
    corpus = mixture.load(folder, "mixture", n_tokens)
    harvest.harvest(corpus, layers, filters, folder / out, matmul_dtype)


@app.command()
def compare(
    folder: Folder,
    cache: Cache = "comparison",
    d_sae: Annotated[int, typer.Option(help="Features of every SAE.")] = 4096,
    n_tokens: Annotated[int, typer.Option(help="Training tokens, counting repetitions.")] = 4_000_000,
    lr: LearningRate = None,
    judged_tokens: JudgedTokens = 20_000,
    evidence_tokens: EvidenceTokens = 300_000,
    steering: Steering = True,
    matmul_dtype: MatmulDtype = None,
) -> None:
    """Compare layers, architectures and sparsities on a part of the text.

    Its activations come from `harvest --layers 9,15,21 --n-tokens 1000000 --out comparison`.
    """
    import saekit as sk

    from . import comparison

    comparison.compare(
        folder,
        sk.open_activations(folder / cache),
        d_sae=d_sae,
        n_tokens=n_tokens,
        n_judged=judged_tokens,
        n_evidence=evidence_tokens,
        steering=steering,
        matmul_dtype=matmul_dtype,
        lr=lr,
    )


@app.command()
def train(
    folder: Folder,
    cache: Cache = "activations",
    layer: Annotated[int, typer.Option(help="One of the layers in the cache.")] = MAIN_LAYER,
    widths: Annotated[Any, integers("Numbers of features.")] = "1024,4096,16384",
    architecture: Annotated[str, typer.Option(help="batchtopk, topk or jumprelu.")] = "batchtopk",
    k: Annotated[int, typer.Option(help="Active features per token, on average.")] = 32,
    nested: Annotated[
        bool, typer.Option("--nested", help="Nested prefixes of the features must reconstruct too.")
    ] = False,
    n_tokens: Annotated[int, typer.Option(help="Training tokens, counting repetitions.")] = 24_000_000,
    lr: LearningRate = None,
    dead_after_tokens: Annotated[
        int | None, typer.Option(help="A feature silent for so many tokens is dead.", show_default="saekit's")
    ] = None,
    seed: int = 0,
    out: Annotated[str, typer.Option(help="The SAEs' folder in FOLDER.")] = "saes",
) -> None:
    """Train SAEs of several widths on one stream of activations."""
    from .training import Plan, train_saes

    plan = Plan(
        layer=layer,
        widths=widths,
        architecture=architecture,
        k=k,
        nested=nested,
        n_tokens=n_tokens,
        lr=lr,
        dead_after_tokens=dead_after_tokens,
        seed=seed,
    )
    train_saes(folder, cache, out, plan)


@app.command()
def concepts(
    folder: Folder,
    sae: Sae,
    evidence_tokens: EvidenceTokens = 300_000,
    steering: Steering = True,
    matmul_dtype: MatmulDtype = None,
) -> None:
    """Judge an SAE by the twenty named concepts."""
    from . import judging

    model, judged, cache, out = judging.for_judging(folder, sae, evidence_tokens, matmul_dtype)
    index = judging.evidence_index(model, judged, cache, out)
    done = judging.judge(model, judged, index, out / "concepts.json", steering=steering)
    print(f"\n{judging.table(done)}\n\n{out / 'concepts.json'}")


@app.command()
def golden_gate(
    folder: Folder,
    sae: Sae,
    n_screened: Annotated[int, typer.Option(help="Candidates that are clamped on the screening questions.")] = 10,
    strengths: Annotated[
        Any, typer.Option(help="Fractions of the residual norm.", parser=fractions, metavar="S,S,...")
    ] = "0.25,0.3,0.35,0.4,0.45,0.5,0.6",
    n_final: Annotated[int, typer.Option(help="Features that are reported on other questions.")] = 2,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer.")] = 40,
    evidence_tokens: EvidenceTokens = 300_000,
    matmul_dtype: MatmulDtype = None,
) -> None:
    """Find the feature of an SAE that makes the model mention a bridge."""
    from . import golden_gate, judging

    model, judged, cache, out = judging.for_judging(folder, sae, evidence_tokens, matmul_dtype)
    index = judging.evidence_index(model, judged, cache, out)["evidence"]
    done = golden_gate.search(
        model,
        judged,
        index,
        out / "golden.json",
        strengths=strengths,
        n_screened=n_screened,
        n_final=n_final,
        max_new_tokens=max_new_tokens,
    )
    for feature, found in done["final"].items():
        print(golden_gate.report(feature, found))
    print(out / "golden.json" if done["final"] else "no screened feature makes readable text mention a bridge")


@app.command()
def package(
    folder: Folder,
    saes: Annotated[str, typer.Option(help="The SAEs' folder in FOLDER.")] = "saes",
    out: Packaged = None,
    judged_tokens: JudgedTokens = 60_000,
    evidence_tokens: EvidenceTokens = 300_000,
    steering: Steering = True,
    matmul_dtype: MatmulDtype = None,
) -> None:
    """Write the SAEs in float16 with their cards (`golden-gate` results are included where there are any)."""
    from . import cards

    cards.package(
        folder,
        folder / saes,
        out or cards.PACKAGED,
        n_judged=judged_tokens,
        n_evidence=evidence_tokens,
        steering=steering,
        matmul_dtype=matmul_dtype,
    )


@app.command()
def measure(
    folder: Folder,
    out: Packaged = None,
    names: Annotated[str, typer.Option(help="Which of them, with commas between.")] = "1k,4k,16k",
    fidelity: Annotated[
        bool, typer.Option(help="Whether fidelity is measured too, on every text that is there.")
    ] = False,
    judged_tokens: JudgedTokens = 60_000,
    steering: Steering = False,
) -> None:
    """Measure packaged SAEs again and write their cards; FOLDER may be empty.

    Concepts are measured on the demo corpus, and on packages where `gather` has put their text into FOLDER (it needs no
    text of `own-text` for that).
    """
    from . import cards

    cards.measure_again(
        folder, out or cards.PACKAGED, names.split(","), fidelity=fidelity, n_judged=judged_tokens, steering=steering
    )


@app.command()
def labels(
    folder: Annotated[
        Path | None, typer.Option(help="Where the SAEs are.", show_default="saekit/pretrained/...")
    ] = None,
) -> None:
    """Write what the cards say of single features as labels.json, which every index of the SAEs shows."""
    from . import cards
    from . import labels as card_labels

    print(*card_labels.write_labels(folder or cards.PACKAGED), sep="\n")
