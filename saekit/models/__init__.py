"""Language models: loading one, and the one small interface to it. The only importer of transformer_lens."""

from .hooks import HookPoint as HookPoint
from .hooks import hook_names as hook_names
from .hooks import hook_text as hook_text
from .language_model import Hook as Hook
from .language_model import LanguageModel as LanguageModel
from .loading import load_model as load_model
