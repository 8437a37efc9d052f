"""Clips: 16 pictures of 150 x 150 px that follow one sperm at 15 a second, as experts grade them (Fujii et al. 2023).

`ClipStage` makes them from frames and tracks; `read_clips` and `write_clips` are folders of them (docs/clips.md).
"""

from casa.clips.folder import iterate_clips, read_clips, write_clips
from casa.clips.stage import ClipStage

__all__ = ["ClipStage", "iterate_clips", "read_clips", "write_clips"]
