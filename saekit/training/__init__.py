"""Training: one step (Trainer), the whole loop (train), schedules, dead features and checkpoints."""

from .config import TrainConfig as TrainConfig
from .loggers import Logger as Logger
from .loggers import RunInfo as RunInfo
from .loggers import TensorBoardLogger as TensorBoardLogger
from .loggers import TrainedSAEs as TrainedSAEs
from .loggers import WandbLogger as WandbLogger
from .loop import train as train
from .metrics import StepMetrics as StepMetrics
from .trainer import Trainer as Trainer
