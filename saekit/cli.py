"""The command line: `saekit …`, the same verbs as the Python API.

Each command only reads its arguments, calls the API and prints what came back; saekit's own errors are printed as
they are, without a traceback, and give exit status 1.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from .errors import SaekitError

app = typer.Typer(
    name="saekit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Sparse autoencoder features: train, look, score, steer.",
)

Command = TypeVar("Command", bound=Callable[..., Any])
Model = Annotated[str, typer.Option(help="A model's name, a local folder or a .gguf file.")]
Text = Annotated[str, typer.Option(help="demo, a file, folder or glob, or a Hugging Face dataset.")]
Hook = Annotated[str, typer.Option(help="A TransformerLens hook point.")]
DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_HOOK = "blocks.15.hook_resid_post"


def command(function: Command) -> Command:
    """Registers a command whose SaekitErrors are printed rather than traced."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SaekitError as e:
            print(f"saekit: {e}", file=sys.stderr)
            raise typer.Exit(1) from e

    return cast(Command, app.command()(wrapped))


@command
def fetch() -> None:
    """Fetch the default model into the cache, or check the copy that is there."""
    from .default_model import default_model_folder

    print(default_model_folder())


@command
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the SAE, the index and the page.")] = Path("demo-output"),
) -> None:
    """From text to a steered bridge: train, evaluate, index, find, steer, and write one offline page."""
    from .demo import run_demo

    run_demo(out)


@command
def train(
    out: Annotated[Path, typer.Option(help="Folder for the SAE, its metrics and checkpoints.")],
    model: Model = DEFAULT_MODEL,
    corpus: Text = "demo",
    hook: Hook = DEFAULT_HOOK,
    d_sae: Annotated[int, typer.Option(help="Number of features.")] = 4096,
    activation: Annotated[str, typer.Option(help="relu, topk or batchtopk.")] = "batchtopk",
    k: Annotated[int, typer.Option(help="Active features per token (topk, batchtopk).")] = 32,
    n_tokens: Annotated[int, typer.Option(help="Training tokens, counting repetitions.")] = 1_000_000,
    batch_size: Annotated[int, typer.Option(help="Tokens per step.")] = 2048,
    seed: int = 0,
) -> None:
    """Train an SAE; run the same command again to resume."""
    import saekit as sk

    lm = sk.load_model(model)
    config = sk.SAEConfig(
        d_in=lm.hook_width(hook), d_sae=d_sae, activation=activation, k=None if activation == "relu" else k
    )
    training = sk.TrainConfig(n_tokens=n_tokens, batch_size=batch_size, seed=seed)
    sae = sk.train(lm, sk.load_corpus(corpus), hook_name=hook, sae=config, config=training, out=out)
    print(sae, out, sep="\n")


@command
def evaluate(
    sae: Annotated[str, typer.Argument(help="An SAE's folder or name.")],
    model: Model = DEFAULT_MODEL,
    corpus: Text = "demo",
    n_tokens: int = 20_000,
) -> None:
    """Fidelity of an SAE on a text: l0, explained variance, cross-entropy loss recovered, KL."""
    import saekit as sk

    print(sk.evaluate(sk.load_model(model), sk.load_sae(sae), sk.load_corpus(corpus), n_tokens=n_tokens))


@command
def index(
    sae: Annotated[str, typer.Argument(help="An SAE's folder or name.")],
    out: Annotated[Path, typer.Option(help="Folder for the index.")],
    model: Model = DEFAULT_MODEL,
    corpus: Text = "demo",
) -> None:
    """Build the feature index of an SAE over a text; run the same command again to resume."""
    import saekit as sk

    print(sk.build_index(sk.load_model(model), sk.load_sae(sae), sk.load_corpus(corpus), out=out))


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
        print(sk.rank_features(loaded, concept).drop(columns="promoted").round(3).to_string())
    else:
        print(sk.specificity(loaded, feature, concept))


@command
def generate(
    prompt: Annotated[str, typer.Argument(help="What the user says.")],
    sae: Annotated[str | None, typer.Option(help="An SAE's folder or name.")] = None,
    feature: Annotated[int | None, typer.Option(help="The feature to clamp.")] = None,
    strength: Annotated[float, typer.Option(help="Share of the residual norm.")] = 0.5,
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
