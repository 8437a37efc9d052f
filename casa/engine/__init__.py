"""Puts sessions together: source, stages, bus, processes. Nothing else does.

``session.replay`` is the offline session, ``live.live`` the one beside a microscope.
"""

from casa.engine.session import SessionResult, replay

__all__ = ["SessionResult", "replay"]
