"""Properties of recordings: what goes in comes out, and no damage to a journal goes unseen."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import recordings
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from casa.record import Recorder, Recording, recover
from casa.record.journal import MAGIC, JournalDamage, JournalWriter, Kind, read_journal
from casa.record.png import decode_png, encode_png
from casa.types import Detections, FrameAccount, FrameStatus, KinematicsTable, Tracks, boxes_to_centre_size

int64 = st.integers(-(2**63), 2**63 - 1)
float64 = st.floats(width=64)
float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def messages(draw) -> tuple[Detections, Tracks, KinematicsTable]:
    n, frame, t_ns, field = draw(st.integers(0, 5)), draw(int64), draw(int64), draw(st.integers(0, 1))

    def column(elements, shape, dtype):
        return draw(hnp.arrays(dtype, shape, elements=elements))

    boxes = column(st.floats(-1e4, 1e4, width=32), (n, 4), np.float32)
    found = Detections(
        frame, t_ns, boxes, column(float32, n, np.float32), column(st.integers(-(2**31), 2**31 - 1), n, np.int64), field
    )
    tracks = Tracks(
        frame, t_ns, column(int64, n, np.int64), boxes, column(float64, (n, 2), np.float64),
        column(float32, n, np.float32), column(st.booleans(), n, np.bool_),
        column(st.floats(-1e6, 1e6), (n, 2), np.float64), np.empty(0, np.int64), field,
    )  # fmt: skip
    rows = {}
    for name in KinematicsTable.__dataclass_fields__:
        if name in ("track_id", "n_frames", "t_start_ns", "flags"):
            rows[name] = column(int64, n, np.int64)
        elif name == "motility_grade":
            rows[name] = np.array(
                draw(st.lists(st.sampled_from(["a", "b", "c", "d", ""]), min_size=n, max_size=n)), "U1"
            )
        else:
            rows[name] = column(float64, (n, 4) if name == "time_by_grade_s" else n, np.float64)
    return found, tracks, KinematicsTable(**rows)


@settings(max_examples=15, deadline=None)
@given(
    what=messages(),
    status=st.sampled_from(list(FrameStatus)),
    reason=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
)
def test_what_is_recorded_is_read_bit_for_bit(what, status, reason):
    found, tracks, kinematics = what
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        recorder = Recorder(path)
        recorder.open(recordings.SESSION)
        recorder.detections(found)
        recorder.tracks(tracks)
        recorder.kinematics(kinematics)
        recorder.frame(found.frame, found.field, found.t_ns, status, reason)
        recorder.finish("complete", FrameAccount(1, **{str(status): 1}), None, None)
        with Recording(path) as recording:
            d, t, k, frames = (
                recording.detections(), recording.tracks(), recording.kinematics(), recording.frames()
            )  # fmt: skip
            assert recording.account == FrameAccount(1, **{str(status): 1})
    boxes = boxes_to_centre_size(found.xyxy.astype(np.float64))
    assert (d.frame == found.frame).all()
    assert (d.t_ns == found.t_ns).all()
    assert (d.field == found.field).all()
    assert np.array_equal(np.stack([d.cx_px, d.cy_px, d.w_px, d.h_px], axis=1), boxes)
    assert np.array_equal(d.confidence, found.confidence.astype(np.float64))
    assert np.array_equal(d.class_id, found.class_id)
    order = np.argsort(tracks.track_id, kind="stable")
    assert np.array_equal(t.track_id, tracks.track_id[order])
    assert np.array_equal(np.stack([t.x_measured_px, t.y_measured_px], 1), tracks.measured_xy_px[order], equal_nan=True)
    assert np.array_equal(t.predicted, tracks.predicted[order])
    assert np.array_equal(t.confidence, tracks.confidence[order])
    order = np.argsort(kinematics.track_id, kind="stable")
    for name, column in kinematics.columns().items():
        equal_nan = column.dtype.kind == "f"
        assert np.array_equal(getattr(k, name), column[order], equal_nan=equal_nan), name
    assert (int(frames["frame"][0]), frames["status"][0], frames["reason"][0]) == (found.frame, status, reason)


PAYLOADS = [bytes([number]) * length for number, length in enumerate((0, 3, 17, 40, 1, 0, 9))]


def journal_of(folder: Path, payloads: list[bytes]) -> tuple[Path, list[int]]:
    """A journal of these records, and where each ends."""
    path = folder / "j"
    path.unlink(missing_ok=True)
    writer = JournalWriter(path, 1.0)
    ends = []
    for payload in payloads:
        writer.append(Kind.TRACKS, payload)
        ends.append(path.stat().st_size)
    writer.close()
    return path, ends


def read(path: Path) -> tuple[list[bytes], JournalDamage]:
    damage = JournalDamage()
    return [payload for _, payload in read_journal(path, damage)], damage


def test_a_journal_cut_at_any_byte_gives_all_records_before_the_cut_and_counts_the_rest(tmp_path: Path):
    path, ends = journal_of(tmp_path, PAYLOADS)
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        got, damage = read(path)
        n = sum(end <= size for end in ends)
        assert got == PAYLOADS[:n]
        good = ends[n - 1] if n else min(size, len(MAGIC))
        torn = size - good if size >= len(MAGIC) else size
        assert damage == JournalDamage(torn_bytes=torn)


def test_a_corrupt_byte_anywhere_costs_its_record_and_is_told(tmp_path: Path):
    path, ends = journal_of(tmp_path, PAYLOADS)
    whole = path.read_bytes()
    for position in range(len(MAGIC), len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :])
        got, damage = read(path)
        hit = sum(end <= position for end in ends)
        assert got == PAYLOADS[:hit] + PAYLOADS[hit + 1 :]
        size = ends[hit] - (ends[hit - 1] if hit else len(MAGIC))
        if hit == len(PAYLOADS) - 1:
            assert damage == JournalDamage(torn_bytes=size)
        else:
            assert damage == JournalDamage(corrupt_bytes=size, lost_records=1)


@settings(max_examples=60, deadline=None)
@given(
    payloads=st.lists(st.binary(max_size=60) | st.just(b"\xca\x5aJR" * 5), max_size=6),
    garbage=st.binary(min_size=1, max_size=80) | st.just(b"\xca\x5aJR\x00\x00"),
    where=st.integers(0, 6),
)
def test_garbage_between_records_is_skipped_and_counted(payloads, garbage, where):
    with tempfile.TemporaryDirectory() as folder:
        path, ends = journal_of(Path(folder), payloads)
        position = [len(MAGIC), *ends][min(where, len(ends))]
        whole = path.read_bytes()
        path.write_bytes(whole[:position] + garbage + whole[position:])
        got, damage = read(path)
    assert got == payloads
    assert damage.lost_records == 0
    assert damage.corrupt_bytes + damage.torn_bytes == len(garbage)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory) -> bytes:
    """The journal of a session that was never finished."""
    return recordings.leave_unfinished(tmp_path_factory.mktemp("unfinished") / "run.h5").read_bytes()


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_recording_cut_anywhere_is_recovered_and_its_account_balances(unfinished: bytes, data):
    session_end = len(MAGIC) + 17 + int.from_bytes(unfinished[len(MAGIC) + 4 :][:4], "little")
    size = data.draw(st.integers(session_end, len(unfinished)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        (Path(folder) / "run.h5.journal").write_bytes(unfinished[:size])
        found = recover(path)
        with Recording(path) as recording:
            account, frames, tracks = recording.account, recording.frames(), recording.tracks()
            assert recording.session == recordings.SESSION
    assert found.account == account
    assert account.balanced
    assert account.captured == len(frames["frame"])
    assert set(tracks.frame) <= set(frames["frame"])
    assert found.status == "interrupted"


@settings(max_examples=40, deadline=None)
@given(
    image=st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8).flatmap(
            lambda shape: st.sampled_from([shape, (*shape, 3)])))
    )
)  # fmt: skip
def test_a_picture_is_kept_without_loss_and_other_programs_read_it(image):
    cv2 = pytest.importorskip("cv2")
    data = encode_png(image)
    back = decode_png(data)
    assert back.dtype == image.dtype
    assert np.array_equal(back, image)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(other[..., ::-1] if image.ndim == 3 else other, image)
