"""SAEs on disk: one file for each family of files, the packaged SAEs, and loading by path or name."""

from .loading import load_sae as load_sae
from .packaged import list_saes as list_saes
from .saelens import holds_sae as holds_sae
from .saelens import saved_config as saved_config
from .transcoder_sets import load_transcoders as load_transcoders
