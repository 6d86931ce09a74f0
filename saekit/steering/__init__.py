"""Changing what a model says through features: edits, generation under edits, and steering studies."""

from .candidates import steering_features as steering_features
from .conditions import Schedule as Schedule
from .conditions import Where as Where
from .constructors import ablate as ablate
from .constructors import add as add
from .constructors import add_direction as add_direction
from .constructors import cap as cap
from .constructors import clamp as clamp
from .constructors import project_out as project_out
from .constructors import scale as scale
from .differences import mean_difference as mean_difference
from .directions import Direction as Direction
from .edits import Edit as Edit
from .experiment import dose_response as dose_response
from .generation import Generation as Generation
from .generation import StreamToken as StreamToken
from .generation import generate as generate
from .generation import stream as stream
from .outputs import output_scores as output_scores
from .steered import SteeredModel as SteeredModel
from .steered import load_steered as load_steered
from .steered import steered as steered
from .study import SteeringStudy as SteeringStudy
