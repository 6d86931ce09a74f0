"""`python -m recipes ...`, from the repository's root: what made the data that comes with saekit."""

from __future__ import annotations

import typer

from .default_saes.commands import app as default_saes
from .demo_corpus.commands import demo_corpus

app = typer.Typer(
    name="python -m recipes",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="What made the data that comes with saekit. Run from the repository's root.",
)
app.command()(demo_corpus)
app.add_typer(default_saes, name="default-saes")

if __name__ == "__main__":
    app()
