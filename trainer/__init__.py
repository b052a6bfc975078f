"""Models, local training, server optimisers and evaluation in JAX: one code path for CPU, GPU and TPU."""

from trainer.cohort import CohortSum, CohortTrainer
from trainer.evaluation import evaluate
from trainer.local import LocalTrainer, Trained
from trainer.model import Arrangement, DeviceExamples, Model, concatenate
from trainer.optimizers import ServerOptimizer, server_optimizer

__all__ = [
    "Arrangement",
    "CohortSum",
    "CohortTrainer",
    "DeviceExamples",
    "LocalTrainer",
    "Model",
    "ServerOptimizer",
    "Trained",
    "concatenate",
    "evaluate",
    "server_optimizer",
]
