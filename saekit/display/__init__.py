"""HTML displays of results in notebooks: a few building blocks that know no result.

A result's class has `_repr_html_`, a function of its package's `displays.py` that puts these blocks together. What they
make is one `div` with its own style sheet: no script, no request, no id. Colours come from the host, and without any
style what is left is tables and words that make sense.
"""

from .blocks import Block as Block
from .blocks import chips as chips
from .blocks import details as details
from .blocks import excerpt as excerpt
from .blocks import facts as facts
from .blocks import histogram as histogram
from .blocks import note as note
from .blocks import sentence as sentence
from .blocks import words as words
from .document import document as document
from .document import shown as shown
from .fields import fields_blocks as fields_blocks
from .frames import frame_table as frame_table
from .frames import in_doubles as in_doubles
from .numbers import number as number
from .numbers import percent as percent
from .numbers import rounded as rounded
from .numbers import size as size
from .numbers import spans as spans
from .tables import Bars as Bars
from .tables import Intervals as Intervals
from .tables import Numbers as Numbers
from .tables import Words as Words
from .tables import table as table
