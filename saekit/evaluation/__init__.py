"""How good an SAE is: what it keeps of the activations, and what the model loses when it must live on them."""

from .passes import evaluate as evaluate
from .result import Evaluation as Evaluation
from .result import Interval as Interval
