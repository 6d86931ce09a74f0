"""The command line: `saekit …`, the same functions as the Python API.

Each command only reads its arguments, calls the API and prints what came back; saekit's own errors are printed as
they are, without a traceback, and give exit status 1. This file imports nothing heavy: each command imports the API
when it runs, so that help and shell completion come at once.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from .cli_config import remaining, use_config, write_config
from .cli_help import ArchitecturesInHelp, in_options
from .errors import SaekitError

if TYPE_CHECKING:
    from .hook_points import HookPoint
    from .training.loggers import Logger

app = typer.Typer(
    name="saekit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sparse autoencoder features: train, look, score, steer.",
)

Command = TypeVar("Command", bound=Callable[..., Any])


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


Model = Annotated[str, typer.Option(help="A model's name, a local folder or a .gguf file.")]
Text = Annotated[str, typer.Option(help="demo, a file, folder or glob, or a Hugging Face dataset.")]
TextColumn = Annotated[str, typer.Option(help="Column of the text, or a field in it: message.content.")]
Labels = Annotated[Any, typer.Option(help="Columns to keep as labels; all without it.", parser=names, metavar="A,B")]
Split = Annotated[str | None, typer.Option(help="Split of a dataset, or files of a folder named so.")]
Encoding = Annotated[str | None, typer.Option(help="Encoding of text files, like cp1252; else UTF-8 or by its mark.")]
DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_HOOK = "blocks.15.hook_resid_post"
HOOKS_HELP = (
    "A TransformerLens hook point. Given several times: an SAE at each, from one run of the model. A+B: a crosscoder, "
    "which reads both."
)
TARGET_L0_HELP = "{target_l0}: active features per token that the weight of the penalty is steered to."
COEFFICIENT_HELP = "{sparsity_coefficient}: a fixed weight of the penalty in place of a target."
CONFIG_HELP = "A YAML file with sections model, corpus, sae and train; options given here win over it."
MATRYOSHKA_HELP = "{matryoshka}: sizes of nested prefixes, rising to --d-sae, like 256,1024,4096."


def command(function: Command) -> Command:
    """Registers a command whose SaekitErrors are printed rather than traced."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SaekitError as e:
            print(f"saekit: {in_options(str(e), inspect.signature(function).parameters)}", file=sys.stderr)
            raise typer.Exit(1) from e

    return cast(Command, app.command(cls=ArchitecturesInHelp)(wrapped))


@command
def fetch() -> None:
    """Fetch the default model into the cache, or check the copy that is there."""
    from .models.default_model import default_model_folder

    print(default_model_folder())


@command
def doctor(
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Check the GPU kernels again, whatever was found.")
    ] = False,
) -> None:
    """What is installed, which devices there are, whether the GPU kernels are right on them, the model, the folders.

    Exit status 1 where something is broken. Nothing is fetched.
    """
    import saekit as sk

    diagnosis = sk.doctor(recheck=recheck)
    print(diagnosis)
    if not diagnosis:
        raise typer.Exit(1)


@command
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the SAE, the index and the page.")] = Path("demo-output"),
) -> None:
    """From text to a steered bridge: train, evaluate, index, find, steer, and write one offline page."""
    from .demo import run_demo

    run_demo(out)


def sizes(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    return tuple(int(n) for n in text.split(","))


def option(panel: str, help: str, *names: str, **more: Any) -> Any:
    """An option in one part of `train`'s help."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


WHERE, FEATURES, RUN, WATCH = "Where it reads and writes", "Features and their sparsity", "The run", "Watching"


@command
def train(
    out: Annotated[Path, typer.Option(help="Folder for the SAE, or for a folder of each, and for metrics.")],
    model: Model = DEFAULT_MODEL,
    corpus: Text = "demo",
    text: TextColumn = "text",
    labels: Labels = None,
    split: Split = None,
    encoding: Encoding = None,
    hook: Annotated[list[str], option(WHERE, HOOKS_HELP)] = [DEFAULT_HOOK],  # noqa: B006 (never changed)
    hook_out: Annotated[str | None, option(WHERE, "Makes a transcoder: the hook point it reconstructs.")] = None,
    skip: Annotated[bool, option(WHERE, "Transcoder: a linear path beside the features.", "--skip")] = False,
    activation: Annotated[str, option(FEATURES, "The architecture: {architectures}.")] = "batchtopk",
    d_sae: Annotated[int, option(FEATURES, "Number of features.")] = 4096,
    k: Annotated[int | None, option(FEATURES, "{k}: active features per token.", show_default="32")] = None,
    target_l0: Annotated[
        float | None, option(FEATURES, TARGET_L0_HELP, show_default="32, less where d_in is small")
    ] = None,
    sparsity_coefficient: Annotated[float | None, option(FEATURES, COEFFICIENT_HELP)] = None,
    l0_penalty: Annotated[str, option(FEATURES, "{l0_penalty}: linear, or quadratic around --target-l0.")] = "linear",
    matryoshka: Annotated[Any, option(FEATURES, MATRYOSHKA_HELP, parser=sizes, metavar="N,N,...")] = None,
    multi_k_coefficient: Annotated[
        float, option(FEATURES, "{multi_k_coefficient}: weight of a second loss, with 4 k features.")
    ] = 0.0,
    n_tokens: Annotated[int, option(RUN, "Training tokens, counting repetitions.")] = 1_000_000,
    batch_size: Annotated[int, option(RUN, "Tokens per step.")] = 2048,
    context_size: Annotated[int, option(RUN, "Length of the token windows, in tokens.")] = 128,
    lr: Annotated[float | None, option(RUN, "Peak learning rate.", show_default="the architecture's own")] = None,
    resample_every: Annotated[
        int | None, option(RUN, "{target_l0}: steps between resamplings of dead features.")
    ] = None,
    seed: Annotated[int, option(RUN, "Seed of the initial weights and of the order of tokens.")] = 0,
    device: Annotated[str, option(RUN, "auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, option(RUN, "Resume the run in --out, or start again.")] = True,
    tensorboard: Annotated[Path | None, option(WATCH, "Folder for TensorBoard's files.")] = None,
    wandb: Annotated[str | None, option(WATCH, "Project at Weights & Biases.")] = None,
    config: Annotated[
        Path | None, option(WHERE, CONFIG_HELP, is_eager=True, callback=use_config, metavar="FILE.yaml")
    ] = None,
    write_config: Annotated[
        bool,
        option(
            WHERE,
            "Print such a file, with every field, and stop.",
            "--write-config",
            callback=write_config,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Train an SAE, or one at each of several hook points; run the same command again to resume."""
    import saekit as sk

    options = inspect.signature(train).parameters
    takes_k = sk.sae.get_architecture(activation).l0_option == "k"
    asked: dict[str, Any] = {} if target_l0 is None else {"target_l0": target_l0}  # None would be: no target
    lm = sk.load_model(model)
    points: list[HookPoint] = [tuple(h.split("+")) if "+" in h else h for h in hook]
    width_out = None if hook_out is None else lm.hook_width(hook_out)
    configs = [
        sk.SAEConfig(
            d_in=(d_in := lm.hook_width(point)),
            d_sae=d_sae,
            activation=activation,
            k=32 if k is None and takes_k else k,
            **asked,
            sparsity_coefficient=sparsity_coefficient,
            l0_penalty=l0_penalty,
            matryoshka=matryoshka or (),
            multi_k_coefficient=multi_k_coefficient,
            hook_name=point,
            hook_out=hook_out,
            d_out=None if width_out == d_in else width_out,
            skip=skip,
            **{**remaining(config, "sae", options), "seed": seed},
        )
        for point in points
    ]
    training = sk.TrainConfig(
        n_tokens=n_tokens,
        batch_size=batch_size,
        context_size=context_size,
        lr=lr,
        resample_every=resample_every,
        device=device,
        **{"seed": seed, **remaining(config, "train", options)},
    )
    loggers: list[Logger] = [] if tensorboard is None else [sk.TensorBoardLogger(tensorboard)]
    loggers += [] if wandb is None else [sk.WandbLogger(wandb)]
    documents = sk.load_corpus(corpus, text=text, labels=labels, split=split, encoding=encoding)
    several = len(points) > 1
    saes: Any = sk.train(
        lm,
        documents,
        hook_name=points if several else points[0],
        sae=configs if several else configs[0],
        config=training,
        out=out,
        resume=resume,
        loggers=loggers,
    )
    print(saes, out, sep="\n")


@command
def evaluate(
    saes: Annotated[list[str], typer.Argument(metavar="SAE", help="Folder or name of an SAE, or of several.")],
    model: Model = DEFAULT_MODEL,
    corpus: Text = "demo",
    text: TextColumn = "text",
    labels: Labels = None,
    split: Split = None,
    encoding: Encoding = None,
    n_tokens: Annotated[int, typer.Option(help="Tokens to evaluate on.")] = 20_000,
) -> None:
    """Fidelity on a text: l0, explained variance, cross-entropy loss recovered, KL; of several SAEs side by side."""
    import saekit as sk

    documents = sk.load_corpus(corpus, text=text, labels=labels, split=split, encoding=encoding)
    loaded = [sk.load_sae(name) for name in saes]
    evaluations = sk.evaluate(sk.load_model(model), loaded, documents, n_tokens=n_tokens)
    print(evaluations[0] if len(loaded) == 1 else sk.compare(loaded, evaluations))


@command
def index(
    sae: Annotated[str, typer.Argument(help="An SAE's folder or name.")],
    out: Annotated[Path, typer.Option(help="Folder for the index.")],
    model: Model = DEFAULT_MODEL,
    corpus: Text = "demo",
    text: TextColumn = "text",
    labels: Labels = None,
    split: Split = None,
    encoding: Encoding = None,
) -> None:
    """Build the feature index of an SAE over a text; run the same command again to resume."""
    import saekit as sk

    documents = sk.load_corpus(corpus, text=text, labels=labels, split=split, encoding=encoding)
    print(sk.build_index(sk.load_model(model), sk.load_sae(sae), documents, out=out))


@command
def specificity(
    index: Annotated[Path, typer.Argument(help="An index's folder.")],
    pattern: Annotated[str, typer.Argument(help="A regular expression for the concept.")],
    feature: Annotated[int | None, typer.Option(help="One feature; without it the best are listed.")] = None,
) -> None:
    """How specific features are to a concept."""
    import saekit as sk

    loaded, concept = sk.load_index(index), sk.Concept.regex(pattern)
    if feature is None:
        table = sk.rank_features(loaded, concept)
        shown = [name for name in table.columns if name != "promoted" and not name.startswith(("f1", "recall_"))]
        print(table[shown].round(3).to_string())
        print(*filter(None, (table.attrs["documents"], table.attrs["few"])), sep="\n")
    else:
        print(sk.specificity(loaded, feature, concept))


@command
def generate(
    prompt: Annotated[str, typer.Argument(help="The prompt, as the user's turn.")],
    sae: Annotated[str | None, typer.Option(help="An SAE's folder or name.")] = None,
    feature: Annotated[int | None, typer.Option(help="The feature to clamp.")] = None,
    strength: Annotated[float, typer.Option(help="Fraction of the residual norm.")] = 0.5,
    model: Model = DEFAULT_MODEL,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
) -> None:
    """What the model answers, with a feature clamped if one is given."""
    import saekit as sk

    edits = []
    if feature is not None:
        if sae is None:
            raise typer.BadParameter("--feature needs --sae")
        edits = [sk.clamp(sk.load_sae(sae), {feature: strength}, unit="norm")]
    lm = sk.load_model(model)
    chat = getattr(lm.tokenizer, "chat_template", None) is not None
    print(
        sk.generate(
            lm, prompt, edits=edits, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, chat=chat
        ).text
    )


if __name__ == "__main__":
    app()
