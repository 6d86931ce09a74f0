"""How much of a known truth an SAE has found: its directions, when they fire, and how strongly.

`score` draws held-out data and pairs true features with the SAE's, `sums` counts over tokens, `result` is what comes
back and says what each figure means. Nothing here knows how the SAE was trained.
"""

from .result import Recovery as Recovery
from .score import recovery as recovery
