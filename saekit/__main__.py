"""`python -m saekit` is the `saekit` command."""

from .cli import app

app()
