"""What each feature does: build an index, open it, ask it."""

from . import directions as directions
from . import exact_topk as exact_topk
from . import statistics as statistics
from .build import build_index as build_index
from .query import FeatureIndex as FeatureIndex
from .query import load_index as load_index
from .records import ActivationBin as ActivationBin
from .records import Active as Active
from .records import Context as Context
from .records import FeatureRecord as FeatureRecord
from .records import Firings as Firings
from .records import Histogram as Histogram
from .statistics import register_statistic as register_statistic
