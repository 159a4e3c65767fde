"""Commands described once: what each means, for whoever reads it, for Python, and for the engine that executes it."""

from __future__ import annotations

from viommu._engine import NO_PASID, CommandTable
from viommu.commands.actions import (
    Action,
    AllContexts,
    ContextGroup,
    Contexts,
    Everything,
    InvalidateRange,
    InvalidateStage2Range,
    Stage1Tag,
    Stage2Tag,
    Store,
)
from viommu.commands.executor import Executor
from viommu.commands.meanings import Among, Case, Condition, Is, Meaning, Meanings, Within, means
from viommu.commands.numbers import Block, Counted, Each, Extent, Number, Operand, Sized, span_of, value_of

__all__ = [
    "NO_PASID",
    "Action",
    "AllContexts",
    "Among",
    "Block",
    "Case",
    "CommandTable",
    "Condition",
    "ContextGroup",
    "Contexts",
    "Counted",
    "Each",
    "Everything",
    "Executor",
    "Extent",
    "InvalidateRange",
    "InvalidateStage2Range",
    "Is",
    "Meaning",
    "Meanings",
    "Number",
    "Operand",
    "Sized",
    "Stage1Tag",
    "Stage2Tag",
    "Store",
    "Within",
    "means",
    "span_of",
    "value_of",
]
