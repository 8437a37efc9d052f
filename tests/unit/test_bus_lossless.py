"""Claims about the lossless path's queue: everything arrives in order, or is counted as left out."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from casa.bus.codec import Decoder, encode
from casa.bus.lossless import ClientQueue, Item
from casa.bus.messages import Gap, Heartbeat

STATUSES = ("processed", "skipped", "dropped", "failed")


def filler(kind: str, size: int, end: str = "") -> Item:
    return Item(kind, bytes(size), end)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(["frame", "tracks", "frame_end"]), st.integers(1, 60)),
        st.tuples(st.just("take"), st.integers(1, 5), st.integers(1, 100)),
        st.tuples(st.just("confirm"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("crash"), st.integers(0, 3), st.just(0)),
    ),
    max_size=120,
)


@given(steps, st.integers(50, 300), st.integers(50, 300))
def test_all_messages_arrive_in_order_or_are_counted_whatever_happens(plan, max_bytes, max_picture_bytes):
    """A model of a client: it writes what it gets, says so late, and may die and come back having written more."""
    queue = ClientQueue("s", max_bytes, max_picture_bytes, pictures=True)
    offered: Counter[str] = Counter()
    got: list[tuple[int, Item]] = []
    pending: list[tuple[int, Item]] = []
    n_confirmed = 0
    for action, what, size in plan:
        if action == "put":
            end = STATUSES[size % 4] if what == "frame_end" else ""
            offered[what] += 1
            queue.put(filler(what, size, end))
        elif action == "take":
            pending += queue.take(what, size)
        elif action == "confirm":
            got += pending[:what]
            del pending[:what]
            if got:
                queue.confirm(got[-1][0])
                n_confirmed = len(got)
        else:  # it wrote some more that it never told of, and died; what was under way is lost
            got += pending[:what]
            pending.clear()
            assert queue.rewind(got[-1][0] if got else -1)
            n_confirmed = len(got)
        assert queue.n_bytes <= max_bytes + max_picture_bytes + 100 * plan_gaps(queue)
    assert n_confirmed <= len(got)
    queue.put(filler("session_end", 1), always=True)
    while batch := queue.take(1000, 10**9):
        pending += batch
    got += pending
    assert [sequence for sequence, _ in got] == list(range(len(got)))
    arrived = Counter(item.kind for _, item in got)
    assert arrived == queue.sent
    gaps: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for _, item in got:
        if item.kind == "gap":
            gap = Decoder().decode(item.data).body
            assert isinstance(gap, Gap)
            assert gap.ends.balanced
            gaps.update(gap.counts)
            ends.update({name: getattr(gap.ends, name) for name in STATUSES})
    assert gaps == queue.left_out
    assert ends.total() == queue.left_out["frame_end"]
    for kind in ("frame", "tracks", "frame_end"):
        assert arrived[kind] + queue.left_out[kind] == offered[kind]


def plan_gaps(queue: ClientQueue) -> int:
    return queue.sent["gap"] + 1


def test_pictures_that_do_not_fit_cost_no_row_of_a_table():
    queue = ClientQueue("s", 1000, 100, pictures=True)
    for _ in range(5):
        queue.put(filler("frame", 90))
        queue.put(filler("tracks", 10))
    assert queue.left_out == {"frame": 4}
    assert queue.sent["tracks"] == 5


def test_a_client_that_wants_no_pictures_gets_none_and_misses_none():
    queue = ClientQueue("s", 1000, 1000, pictures=False)
    queue.put(filler("frame", 90))
    assert len(queue) == 0
    assert not queue.left_out


def test_what_was_never_sent_is_not_taken_as_written():
    queue = ClientQueue("s", 1000, 1000, pictures=False)
    for _ in range(5):
        queue.put(Item("heartbeat", encode(Heartbeat(mono_ns=1))))
    assert [sequence for sequence, _ in queue.take(2, 10**6)] == [0, 1]
    queue.confirm(10**9)
    assert len(queue) == 3
    assert queue.written == 1


def test_a_client_that_lost_what_it_had_written_is_told_apart():
    queue = ClientQueue("s", 1000, 1000, pictures=False)
    for _ in range(5):
        queue.put(filler("tracks", 10))
    queue.take(5, 1000)
    queue.confirm(3)
    assert not queue.rewind(-1)
    assert queue.rewind(3)
