"""Recordings: written as they happen, readable meanwhile, rebuilt from a journal after a crash, exported.

The format is docs/recording.md. This part knows the types, the configuration and the tables, and no stage.
"""

from casa.record.export import export
from casa.record.reader import Recording
from casa.record.recovery import Recovered, recover
from casa.record.writer import Recorder

__all__ = ["Recorder", "Recording", "Recovered", "export", "recover"]
