"""Live widgets for Jupyter, and the offline page that holds them."""

from .circuits import CircuitsWidget as CircuitsWidget
from .circuits import attention_patterns as attention_patterns
from .feature_browser import FeatureBrowser as FeatureBrowser
from .feature_browser import explore as explore
from .feature_card import FeatureCard as FeatureCard
from .feature_card import card as card
from .page import Text as Text
from .page import save_page as save_page
from .specificity_panel import SpecificityPanel as SpecificityPanel
from .specificity_panel import score as score
from .steering_panel import SteeringPanel as SteeringPanel
from .steering_request import Condition as Condition
from .steering_request import SteeringRequest as SteeringRequest
from .steering_writer import steer as steer
from .token_highlight import TokenHighlight as TokenHighlight
from .token_highlight import highlight as highlight
from .training_monitor import TrainingMonitor as TrainingMonitor
