"""Makes a packaged SAE of a trained one: float16 weights and a card with its figures.

    make demo
    python scripts/ship_sae.py demo-output/sae demo-output/activations smollm2-135m-instruct/4k

The card's figures are measured here, on the held-out documents of the cache the SAE was trained on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import saekit as sk

CARD = """# {name}

| | |
|---|---|
| model | {model}, weight processing {processing} |
| hook point | `{hook}` |
| features | {d_sae:,}, rule {activation}, k {k} |
| trained on | the demo corpus, which the model wrote itself, without its held-out tenth |
| size | {n_documents:,} documents, {n_text:,} tokens; {n_tokens:,} tokens of training in all |
| command | `make demo`, then `python scripts/ship_sae.py` |
| seed | {seed} |
| left out | {rule} |
| stored as | float16 |

Measured on {n_held_out:,} tokens of documents it was not trained on, as stored:

```
{evaluation}
```

Known limits: it has seen one model's own English text about 123 topics and nothing else; other text is reconstructed
less well. It exists so that a notebook can start at once; wider SAEs trained on more text will replace it.
"""


def main(folder: str, cache: str, name: str) -> None:
    sae = sk.load_sae(folder)
    training, held_out = sk.open_activations(cache).split(0.1)
    out = Path(sk.__file__).parent / "pretrained" / name
    sae.half().save(out)
    stored = sk.load_sae(out)
    evaluation = sk.evaluate(sk.load_model(), stored, held_out.windows, n_tokens=6_000)
    config = stored.config
    text = CARD.format(
        name=name, model=config.model_name, processing=config.weight_processing, hook=config.hook_name,
        d_sae=config.d_sae, activation=config.activation, k=config.k, n_documents=training.windows.n_documents,
        n_text=training.n_tokens, n_tokens=sk.demo.N_TRAINING_TOKENS, seed=config.seed,
        rule=config.token_rule.describe(), n_held_out=evaluation.n_tokens, evaluation=evaluation,
    )  # fmt: skip
    (out / "CARD.md").write_text(text)
    print(text)


if __name__ == "__main__":
    import saekit.demo

    main(*sys.argv[1:])
