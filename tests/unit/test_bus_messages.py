"""Claims about messages: what goes in comes out, and what is no message is counted and never raises."""

from __future__ import annotations

import typing
from dataclasses import replace

import bus_messages
import msgspec
import numpy as np
import pytest
import recordings
from hypothesis import given, settings
from hypothesis import strategies as st

from casa.bus import messages as m
from casa.bus.array import Array, pack
from casa.bus.base import MAX_MESSAGE_BYTES
from casa.bus.codec import Decoder, encode
from casa.bus.convert import (
    clip_message,
    clip_of,
    detections_message,
    detections_of,
    grades_message,
    grades_of,
    kinematics_message,
    kinematics_of,
    tracks_message,
    tracks_of,
)
from casa.errors import CasaError

MESSAGES = bus_messages.every_message()
ENCODED = [encode(message, "a" * 32) for message in MESSAGES]


def test_every_type_of_the_protocol_is_tried_here():
    assert {type(message) for message in MESSAGES} == set(typing.get_args(m.AnyMessage))


@pytest.mark.parametrize("message", MESSAGES, ids=m.type_of)
def test_a_message_comes_out_as_it_went_in(message):
    decoder = Decoder()
    data = encode(message, "session")
    envelope = decoder.decode(data)
    assert envelope is not None, decoder.last_error
    assert type(envelope.body) is type(message)
    assert envelope.session == "session"
    assert msgspec.msgpack.encode(envelope.body) == msgspec.msgpack.encode(message)
    assert msgspec.msgpack.decode(data)["body"]["type"] == m.type_of(message)
    assert (decoder.good, decoder.bad) == (1, 0)


def test_tables_come_out_with_the_same_numbers():
    tracks, found = recordings.tracks(7), recordings.detections(7)
    rows, grades, kept = recordings.kinematics([1, 2, 3, 9]), recordings.grades([4]), recordings.kept_clip(2)
    for table, back in (
        (tracks, tracks_of(tracks_message(tracks))),
        (found, detections_of(detections_message(found))),
        (rows, kinematics_of(kinematics_message(rows))),
        (kept.clip, clip_of(clip_message(kept.clip, kept.attention))[0]),
        (grades, grades_of(grades_message(grades, 0, "g"))),
    ):
        for name in table.__dataclass_fields__:
            expected, got = getattr(table, name), getattr(back, name)
            if isinstance(expected, np.ndarray):
                assert got.dtype == expected.dtype
                assert np.array_equal(got, expected, equal_nan=expected.dtype.kind == "f"), name
            else:
                assert got == expected


@pytest.mark.parametrize(
    ("dtype", "shape", "n_bytes"), [("u1", (2, 3), 5), ("f8", (1 << 31, 1 << 31), 8), ("f8", (2,), 17), ("b1", (1,), 0)]
)
def test_an_array_whose_bytes_are_not_its_shape_is_refused(dtype, shape, n_bytes):
    with pytest.raises(ValueError, match="array of shape"):
        Array(dtype, shape, memoryview(bytes(n_bytes)))


def test_a_view_whose_columns_do_not_fit_each_other_is_refused():
    data = msgspec.msgpack.decode(encode(bus_messages.view()))
    data["body"]["trail_length"] = {"dtype": "i4", "shape": [4], "data": np.array([9, 9, 9, 9], "<i4").tobytes()}
    decoder = Decoder()
    assert decoder.decode(msgspec.msgpack.encode(data)) is None
    assert "trail_xy_px" in decoder.last_error


def test_another_version_of_the_protocol_is_refused():
    data = msgspec.msgpack.decode(ENCODED[0])
    data["version"] = m.PROTOCOL_VERSION + 1
    decoder = Decoder()
    assert decoder.decode(msgspec.msgpack.encode(data)) is None
    assert decoder.bad == 1


def test_a_message_that_is_not_expected_here_is_refused():
    decoder = Decoder((m.View,))
    assert decoder.decode(encode(m.Stop())) is None
    assert decoder.decode(encode(bus_messages.view())) is not None
    assert (decoder.good, decoder.bad) == (1, 1)


def test_a_message_beyond_the_bound_is_neither_sent_nor_taken():
    image = pack(np.zeros((9000, 8000), "u1"))
    with pytest.raises(CasaError, match="longer than the bus takes"):
        encode(m.PictureMessage(frame=0, t_ns=0, image=image))
    decoder = Decoder()
    assert decoder.decode(bytes(MAX_MESSAGE_BYTES + 1)) is None
    assert decoder.bad == 1


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5, 0, 0), (1.5, -0.5, 0, 0, 0), (np.nan, 0.5, 0.5, 0, 0)])
def test_grades_that_are_no_distribution_are_refused(shares):
    with pytest.raises(ValueError, match="do not add up to 1"):
        m.GradesMessage(clip_id=1, track_id=1, distribution=pack(np.array(shares)), model="g")


def test_clips_and_maps_are_bounded():
    kept = recordings.kept_clip(1)
    for wrong in (np.zeros((2, 3, 4), np.uint8), np.zeros((0, 3, 3), np.uint8), np.zeros((65, 256, 256), np.uint8)):
        with pytest.raises(ValueError, match="no maps"):
            clip_message(kept.clip, wrong)
    with pytest.raises(ValueError, match="no clip"):
        clip_message(replace(kept.clip, images=np.zeros((16, 600, 600), np.uint8)))


def test_unknown_grades_and_missing_columns_of_kinematics_are_told():
    message = kinematics_message(recordings.kinematics([1]))
    with pytest.raises(ValueError, match="grades"):
        kinematics_of(m.KinematicsMessage(columns=message.columns, grade=pack(np.array([200], "u1"))))
    columns = {name: column for name, column in message.columns.items() if name != "lin"}
    with pytest.raises(ValueError, match="without lin"):
        kinematics_of(m.KinematicsMessage(columns=columns, grade=message.grade))


@st.composite
def damaged(draw) -> bytes:
    """A message with bytes changed, cut out, put in or doubled."""
    data = bytearray(draw(st.sampled_from([data for data in ENCODED if len(data) < 5000])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == 1:
            del data[at : at + draw(st.integers(1, 50))]
        elif kind == 2:
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 100))]
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=200), damaged()))
def test_whatever_the_bytes_are_decoding_never_raises_and_counts(data):
    decoder = Decoder()
    found = decoder.decode(data)
    assert decoder.good + decoder.bad == 1
    assert (found is None) == (decoder.bad == 1)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_message_with_other_values_in_it_is_taken_whole_or_not_at_all(data):
    """Well-formed MessagePack that is wrong: the decoder's checks, and what the arrays become, must hold."""
    tree = msgspec.msgpack.decode(data.draw(st.sampled_from(ENCODED)))
    name = data.draw(st.sampled_from(sorted(tree["body"])))
    tree["body"][name] = data.draw(values)
    decoder = Decoder()
    found = decoder.decode(msgspec.msgpack.encode(tree))
    if found is not None:
        for column in found.body.__struct_fields__:
            part = getattr(found.body, column)
            if isinstance(part, Array):
                assert part.numpy().shape == part.shape


def test_deeply_nested_bytes_are_counted_not_a_crash():
    decoder = Decoder()
    assert decoder.decode(b"\x91" * 1_000_000) is None
    assert decoder.decode(b"\x81\xa4body" * 100_000) is None
    assert decoder.bad == 2
