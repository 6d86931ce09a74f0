"""Training: one step (Trainer), the whole loop (train), schedules, dead features and checkpoints."""

from .config import TrainConfig as TrainConfig
from .loop import train as train
from .metrics import StepMetrics as StepMetrics
from .trainer import Trainer as Trainer
