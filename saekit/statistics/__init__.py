"""Intervals and permutation: the only place that draws any.

`intervals` has the types, `jackknife` the intervals of any statistic over documents, prompts or features, `proportions`
those of rates, `permutation` the tests that count a whole search.
"""

from .intervals import LEVEL as LEVEL
from .intervals import MIN_UNITS as MIN_UNITS
from .intervals import Estimate as Estimate
from .intervals import Interval as Interval
from .intervals import percentile_bounds as percentile_bounds
from .jackknife import clustered_mean as clustered_mean
from .jackknife import exact_interval as exact_interval
from .jackknife import jackknife_bounds as jackknife_bounds
from .jackknife import jackknife_estimate as jackknife_estimate
from .jackknife import no_interval as no_interval
from .permutation import max_statistic_p as max_statistic_p
from .permutation import permuted_labels as permuted_labels
from .proportions import clustered_proportion as clustered_proportion
from .proportions import design_effect as design_effect
