"""Specificity: does a feature fire for a concept, and for nothing else?

`concepts` says where a concept holds, `examples` turns an index and a concept into classified examples,
`sparse_statistics` has the exact ranking statistics, `resampling` their intervals over documents, `evidence` picks the
contexts behind the numbers, `specificity` puts them together and `result` is what comes back.
"""

from .concepts import Concept as Concept
from .result import SpecificityResult as SpecificityResult
from .specificity import rank_features as rank_features
from .specificity import specificity as specificity
