"""Language models: loading one, and the one small interface to it. The only importer of transformer_lens."""

from .language_model import Hook as Hook
from .language_model import LanguageModel as LanguageModel
from .loading import load_model as load_model
