"""Intervals and resampling: the only place that draws resamples and takes their percentiles.

`intervals` has the types and how an interval is made of draws or of counts, `resampling` how often each unit (document,
window, prompt, feature) counts in each resample.
"""

from .intervals import LEVEL as LEVEL
from .intervals import Estimate as Estimate
from .intervals import Interval as Interval
from .intervals import percentile_bounds as percentile_bounds
from .intervals import percentile_interval as percentile_interval
from .intervals import point_and_interval as point_and_interval
from .intervals import wilson_interval as wilson_interval
from .resampling import count_blocks as count_blocks
from .resampling import mean_interval as mean_interval
from .resampling import resample_counts as resample_counts
from .resampling import resample_picks as resample_picks
from .resampling import resample_within as resample_within
