"""What the notebook cells of the browser tests need: small widgets from made-up numbers, importable in a kernel."""

from __future__ import annotations

from saekit.widgets import TokenHighlight
from saekit.widgets.token_highlight import pack_rows

HOSTILE = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"


def highlighted() -> TokenHighlight:
    """Eight tokens, one of them HTML, one excluded; features 3, 5 and 9 fire."""
    tokens = ["<bos>", "The", " Golden", " Gate", HOSTILE, "\n", "<0xE2>", " שלום"]
    acts = pack_rows([1, 2, 2, 3, 3, 4, 7], [5, 3, 5, 3, 9, 9, 3], [0.5, 2.0, 1.0, 4.0, 1.5, 3.0, 1.0], len(tokens))
    return TokenHighlight(
        tokens=tokens, excluded=["special token"] + [""] * 7, acts=acts, n_features=16, names={"3": "bridge gate bay"}
    )
