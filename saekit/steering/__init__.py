"""Changing what a model writes through features: edits, generation under edits, and steering studies."""

from .candidates import steering_features as steering_features
from .directions import Direction as Direction
from .dose_response import dose_response as dose_response
from .edits import EDITS as EDITS
from .edits import Edit as Edit
from .edits import register_edit as register_edit
from .generation import Generation as Generation
from .generation import StreamToken as StreamToken
from .generation import generate as generate
from .generation import stream as stream
from .make_edits import ablate as ablate
from .make_edits import add as add
from .make_edits import add_direction as add_direction
from .make_edits import cap as cap
from .make_edits import clamp as clamp
from .make_edits import project_out as project_out
from .make_edits import scale as scale
from .mean_difference import mean_difference as mean_difference
from .output_scores import output_scores as output_scores
from .schedule import Schedule as Schedule
from .steered import SteeredModel as SteeredModel
from .steered import load_steered as load_steered
from .steered import steered as steered
from .study import SteeringStudy as SteeringStudy
from .where import Where as Where
