"""Superposition data with known features: what an autoencoder ought to find, and exactly where each feature fires.

`independent`, `correlated` and `hierarchical` make a GroundTruth; `truth.batches` feeds a Trainer and `sk.recovery`
scores what it found.
"""

from .make import correlated as correlated
from .make import hierarchical as hierarchical
from .make import independent as independent
from .make import unit_directions as unit_directions
from .recovery import recovery as recovery
from .recovery_result import Recovery as Recovery
from .truth import GroundTruth as GroundTruth
from .truth import SyntheticBatch as SyntheticBatch
