"""The architectures: how an SAE chooses its active features, one file each, and the registry."""

from .architecture import Architecture as Architecture
from .architecture import TrainingForward as TrainingForward
from .registry import ARCHITECTURES as ARCHITECTURES
from .registry import get_architecture as get_architecture
from .registry import of_saelens as of_saelens
from .registry import register_architecture as register_architecture
from .registry import weight_shapes as weight_shapes
from .registry import with_option as with_option
