"""The tasks: one module a family, one table of them all."""

from benchmarks.training.tasks import adding, characters, copying, images, real
from benchmarks.training.tasks._base import Batch as Batch
from benchmarks.training.tasks._base import Data as Data
from benchmarks.training.tasks._base import Metric as Metric
from benchmarks.training.tasks._base import Task as Task

__all__ = ["TASKS", "Batch", "Data", "Metric", "Task"]

TASKS = {task.name: task for family in (images, adding, copying, characters, real) for task in family.TASKS}
"""Name -> task."""
