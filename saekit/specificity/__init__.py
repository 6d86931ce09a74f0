"""Specificity: does a feature fire for a concept, and for nothing else?

`concepts` says where a concept holds, `split` which documents features are chosen and reported on, `examples` turns an
index and a concept into classified examples. `sparse_statistics` has the exact ranking statistics, `leave_one_out` the
same without each document and `estimates` their intervals; `permutation` asks what the best of all features does for
permuted labels. `tables`, `controls` and `evidence` are what stands beside the numbers, `measurement` and `ranking` put
them together, and `result` is what comes back.
"""

from .concepts import Concept as Concept
from .measurement import specificity as specificity
from .ranking import rank_features as rank_features
from .result import SpecificityResult as SpecificityResult
