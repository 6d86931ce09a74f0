"""How good an SAE is: what it keeps of the activations, what the model loses with it, and SAEs side by side.

`saebench` has the metrics of what features can be used for.
"""

from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .fidelity import evaluate as evaluate
from .result import Evaluation as Evaluation
