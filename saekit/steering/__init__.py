"""Changing what a model says through features: edits, generation under edits, and steering studies."""

from .edits import Edit as Edit
from .edits import ablate as ablate
from .edits import add as add
from .edits import clamp as clamp
from .edits import scale as scale
from .generation import Generation as Generation
from .generation import StreamToken as StreamToken
from .generation import generate as generate
from .generation import stream as stream
from .outputs import output_scores as output_scores
from .study import SteeringStudy as SteeringStudy
from .study import dose_response as dose_response
