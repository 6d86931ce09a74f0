"""saekit: sparse autoencoder features in Jupyter.

Importing has no effect beyond the import: no network, no seeds, no threads.
"""

from .models import LanguageModel as LanguageModel
from .models import load_model as load_model

__version__ = "0.1.0"
