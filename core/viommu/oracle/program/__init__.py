"""Replays what a program did on a machine with real hardware: ioctls, DMA of its devices, reads of its event queues.

These recordings have a ``type`` in each line (smmuv3-nested.jsonl). What they do not tell is taken as it must have
been: event files are closed before their objects go, and memory is there where a call that names it succeeds. The
tables that the program built are in captures of the moments that its lines of type ``snap`` name.
"""

from viommu.oracle.program.lines import is_program
from viommu.oracle.program.run import replay_program
from viommu.oracle.program.tables import Captures

__all__ = ["Captures", "is_program", "replay_program"]
