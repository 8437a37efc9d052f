"""Edges between threads: bounded queues with a policy, gathered in one inbox for each thread that reads.

``block`` makes the producer wait (offline: lossless); ``latest`` drops the oldest item and hands it to
``on_drop`` (live: no item is lost uncounted).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal


class Cancelled(Exception):
    """The graph is being torn down; whoever waits on an edge is let go."""


class Edge:
    """One producer's way into an inbox; made by ``Inbox.edge``."""

    def __init__(
        self, inbox: Inbox, target: str, policy: Literal["block", "latest"], depth: int, on_drop: Callable[[Any], None]
    ) -> None:
        self._inbox = inbox
        self.target = target
        self.policy = policy
        self.depth = depth
        self.on_drop = on_drop
        self.items: deque[tuple[int, Any]] = deque()
        self.n_dropped = 0
        self.closed = False

    def put(self, item: Any) -> None:
        """Hand ``item`` over; waits while the edge is full under ``block``. Raises Cancelled on tear-down."""
        dropped: list[Any] = []
        with self._inbox.condition:
            if self.policy == "latest":
                while len(self.items) >= self.depth:
                    dropped.append(self.items.popleft()[1])
            else:
                while len(self.items) >= self.depth and not self._inbox.cancelled:
                    self._inbox.condition.wait()
            if self._inbox.cancelled:
                raise Cancelled
            self.items.append((self._inbox.next_number(), item))
            self.n_dropped += len(dropped)
            self._inbox.condition.notify_all()
        for lost in dropped:
            self.on_drop(lost)

    def close(self) -> None:
        """Say that no more items will come."""
        with self._inbox.condition:
            self.closed = True
            self._inbox.condition.notify_all()


class Inbox:
    """The edges that lead to one thread; items come out in the order in which they were put."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.cancelled = False
        self._edges: list[Edge] = []
        self._number = 0

    def edge(
        self,
        target: str,
        policy: Literal["block", "latest"] = "block",
        depth: int = 8,
        on_drop: Callable[[Any], None] = lambda item: None,
    ) -> Edge:
        """Add an edge whose items are meant for the node ``target``."""
        edge = Edge(self, target, policy, depth, on_drop)
        self._edges.append(edge)
        return edge

    def next_number(self) -> int:
        """A running number for the order of items; call with the condition held."""
        self._number += 1
        return self._number

    def get(self) -> tuple[str, Any] | None:
        """The oldest waiting item with the node it is for; None once all edges are closed and empty."""
        with self.condition:
            while True:
                if self.cancelled:
                    raise Cancelled
                waiting = [edge for edge in self._edges if edge.items]
                if waiting:
                    edge = min(waiting, key=lambda e: e.items[0][0])
                    _, item = edge.items.popleft()
                    self.condition.notify_all()
                    return edge.target, item
                if all(edge.closed for edge in self._edges):
                    return None
                self.condition.wait()

    def cancel(self) -> None:
        """Let everybody go who waits here, with Cancelled."""
        with self.condition:
            self.cancelled = True
            self.condition.notify_all()
