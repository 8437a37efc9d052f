"""Messages to bytes and back. What is not a message of this protocol is counted, and never an exception."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from casa.bus.base import MAX_MESSAGE_BYTES
from casa.bus.messages import PROTOCOL_VERSION, AnyMessage, Envelope
from casa.errors import CasaError

_local = threading.local()


def encode(body: AnyMessage, session: str = "") -> bytes:
    """The bytes of a message. Raises CasaError when it is longer than the bus takes."""
    encoder = getattr(_local, "encoder", None)
    if encoder is None:  # one a thread: an encoder must not be used from two at once
        encoder = _local.encoder = msgspec.msgpack.Encoder()
    data = encoder.encode(Envelope(version=PROTOCOL_VERSION, session=session, body=body))
    if len(data) > MAX_MESSAGE_BYTES:
        raise CasaError(f"a message of {len(data)} bytes is longer than the bus takes ({MAX_MESSAGE_BYTES})")
    return data


class Decoder:
    """Decodes messages, and counts in ``bad`` those that are none; one thread at a time.

    Parameters
    ----------
    expected : the message types (a tuple, or their union) that are taken; others are bad. None takes all.
    """

    def __init__(self, expected: Any = None) -> None:
        self._decoder = msgspec.msgpack.Decoder(Envelope)
        self._expected = expected
        self.good = 0
        self.bad = 0
        self.last_error = ""

    def decode(self, data: Any) -> Envelope | None:
        """The message in ``data`` (bytes or a buffer); None where there is none, and then ``bad`` has grown.

        Arrays in it look into ``data``.
        """
        try:
            if len(data) > MAX_MESSAGE_BYTES:
                raise ValueError(f"{len(data)} bytes are too many")
            envelope = self._decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError, UnicodeError) as error:
            self._refuse(str(error))
            return None
        if self._expected is not None and not isinstance(envelope.body, self._expected):
            self._refuse(f"not expected here: {type(envelope.body).__name__}")
            return None
        self.good += 1
        return envelope

    def _refuse(self, why: str) -> None:
        self.bad += 1
        self.last_error = why[:200]
