"""Intervals, resampling and permutation: the only place that draws any.

`intervals` has the types, `jackknife` the intervals of any statistic over documents, prompts or features, `proportions`
those of rates, `permutation` the tests that count a whole search, `resampling` how often each unit counts in a
resample.
"""

from .intervals import LEVEL as LEVEL
from .intervals import MIN_UNITS as MIN_UNITS
from .intervals import Estimate as Estimate
from .intervals import Interval as Interval
from .intervals import percentile_bounds as percentile_bounds
from .intervals import percentile_interval as percentile_interval
from .intervals import point_and_interval as point_and_interval
from .intervals import wilson_interval as wilson_interval
from .jackknife import clustered_mean as clustered_mean
from .jackknife import exact_interval as exact_interval
from .jackknife import jackknife_bounds as jackknife_bounds
from .jackknife import jackknife_estimate as jackknife_estimate
from .jackknife import no_interval as no_interval
from .permutation import max_statistic_p as max_statistic_p
from .permutation import permuted_labels as permuted_labels
from .proportions import clustered_proportion as clustered_proportion
from .proportions import design_effect as design_effect
from .resampling import count_blocks as count_blocks
from .resampling import mean_interval as mean_interval
from .resampling import resample_counts as resample_counts
from .resampling import resample_picks as resample_picks
from .resampling import resample_within as resample_within
