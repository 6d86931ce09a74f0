"""Live widgets for Jupyter, and the offline page that holds them."""

from .token_highlight import TokenHighlight as TokenHighlight
from .token_highlight import highlight as highlight
