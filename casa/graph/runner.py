"""Runs a graph: in one thread (deterministic, for tests and debugging) or in one thread a group of stages.

Both runners push items through the same code; offline, with ``block`` edges, both give the same tables.
The runner knows stages only by their Protocol, and frames only by ``index``/``frame`` and ``field``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from casa.errors import CasaError, FrameError
from casa.graph.edge import Cancelled, Edge, Inbox
from casa.graph.latency import LatencyHistogram
from casa.graph.ledger import Ledger
from casa.graph.stage import Stage
from casa.types import Frame, FrameStatus, MissingFrame

#: So many failures of one stage in a row are no longer the fault of a frame.
MAX_FAILURES_IN_A_ROW = 10


@dataclass(slots=True)
class Node:
    """A stage in its place in the graph.

    Parameters
    ----------
    name : what edges and reports call it.
    stage : the Stage.
    inputs : names of the nodes whose output it takes; ``"source"`` is the source of frames.
    thread : nodes of the same name share a thread under ThreadedRunner and call each other directly;
        ``"source"`` is the thread that reads the source.
    accepts : the item types it takes; others pass it by.
    completes : a frame is processed when this node gives an item of it.
    tolerant : an error is the frame's (counted as failed), not the session's.
    """

    name: str
    stage: Stage
    inputs: tuple[str, ...]
    thread: str
    accepts: tuple[type, ...] = (object,)
    completes: bool = False
    tolerant: bool = False
    wall: LatencyHistogram = field(default_factory=LatencyHistogram)
    cpu_ns: int = 0
    failures_in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class EdgePolicy:
    """How items wait in front of a node that runs in another thread."""

    policy: Literal["block", "latest"] = "block"
    depth: int = 8


def frame_key(item: Any) -> tuple[int, int] | None:
    """(frame number, field) of an item that belongs to a frame, else None."""
    number = getattr(item, "index", getattr(item, "frame", None))
    return (number, item.field) if isinstance(number, int) else None


class _Graph:
    """What both runners share: pushing items from node to node, with errors and times accounted."""

    def __init__(self, nodes: list[Node], ledger: Ledger, every_nth: int) -> None:
        known = {"source"}
        for node in nodes:
            unknown = set(node.inputs) - known
            if unknown:
                raise ValueError(f"node {node.name}: inputs {sorted(unknown)} are not nodes before it")
            known.add(node.name)
        self.nodes = nodes
        self.by_name = {node.name: node for node in nodes}
        self._successors = {name: [node for node in nodes if name in node.inputs] for name in known}
        self.ledger = ledger
        self.every_nth = every_nth
        self.source_cpu_ns = 0

    def admit(self, item: Frame | MissingFrame) -> bool:
        """Open the frame's account; True when it is to be analysed."""
        self.ledger.capture(item.index, item.field, item.t_ns, getattr(item, "captured_mono_ns", None))
        if isinstance(item, MissingFrame):
            self.ledger.end(item.index, item.field, item.status, item.reason)
            return False
        if item.index % self.every_nth:
            self.ledger.end(item.index, item.field, FrameStatus.SKIPPED)
            return False
        return True

    def successors(self, name: str) -> list[Node]:
        return self._successors[name]

    def run_node(self, node: Node, item: Any, deliver: Callable[[Node, Any], None]) -> None:
        """Let the node process ``item`` and deliver what it gives."""
        outputs: Iterable[Any] = ()
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        try:
            outputs = list(node.stage.process(item))
            node.failures_in_a_row = 0
        except FrameError as error:
            self._failed(node, item, error)
        except CasaError:
            raise
        except Exception as error:
            self._failed(node, item, error)
        finally:
            node.wall.add(time.perf_counter_ns() - wall)
            node.cpu_ns += time.thread_time_ns() - cpu
        self.deliver_all(node, outputs, deliver)

    def flush_node(self, node: Node, deliver: Callable[[Node, Any], None]) -> None:
        cpu = time.thread_time_ns()
        outputs = list(node.stage.flush())
        node.cpu_ns += time.thread_time_ns() - cpu
        self.deliver_all(node, outputs, deliver)

    def deliver_all(self, node: Node, outputs: Iterable[Any], deliver: Callable[[Node, Any], None]) -> None:
        for output in outputs:
            if node.completes and (key := frame_key(output)) is not None:
                self.ledger.end(*key, FrameStatus.PROCESSED)
            deliver(node, output)

    def _failed(self, node: Node, item: Any, error: Exception) -> None:
        kind = "" if isinstance(error, CasaError) else f"{type(error).__name__}: "
        reason = f"{node.name}: {kind}{' '.join(str(error).split())}"
        key = frame_key(item)
        if isinstance(error, CasaError) and not node.tolerant:
            raise error
        if not node.tolerant or key is None:
            raise CasaError(f"{reason} (frame {key[0] if key else 'unknown'})") from error
        node.failures_in_a_row += 1
        self.ledger.end(*key, FrameStatus.FAILED, reason)
        if node.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise CasaError(
                f"{reason}; {MAX_FAILURES_IN_A_ROW} frames in a row failed, so the session stops"
            ) from error

    def open_all(self) -> None:
        opened: list[Node] = []
        try:
            for node in self.nodes:
                node.stage.open()
                opened.append(node)
        except BaseException:
            for node in reversed(opened):
                node.stage.close()
            raise

    def close_all(self) -> None:
        """Close every stage, and only then raise the first error that one of them had."""
        errors: list[BaseException] = []
        for node in reversed(self.nodes):
            try:
                node.stage.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def cpu_ms_per_frame(self) -> dict[str, float]:
        """CPU time of the calling threads per captured frame, by node; a network's own threads are not in it."""
        frames = max(self.ledger.account().captured, 1)
        table = {"source": self.source_cpu_ns / frames / 1e6}
        return table | {node.name: node.cpu_ns / frames / 1e6 for node in self.nodes}


def _read(graph: _Graph, source: Iterable[Frame | MissingFrame], stop: threading.Event) -> Iterable[Frame]:
    """Frames of the source that are to be analysed, each accounted for, until it ends or ``stop`` is set."""
    iterator = iter(source)
    while not stop.is_set():
        cpu = time.thread_time_ns()
        item = next(iterator, None)
        graph.source_cpu_ns += time.thread_time_ns() - cpu
        if item is None:
            return
        if graph.admit(item):
            assert isinstance(item, Frame)
            yield item


class SerialRunner:
    """One thread, one frame after the other."""

    def __init__(self, nodes: list[Node], ledger: Ledger, every_nth: int = 1) -> None:
        self.graph = _Graph(nodes, ledger, every_nth)

    def run(self, source: Iterable[Frame | MissingFrame], stop: threading.Event | None = None) -> None:
        """Drive the source through the graph until its end or until ``stop`` is set; then flush."""
        graph = self.graph

        def deliver(node: Node | None, item: Any) -> None:
            for successor in graph.successors(node.name if node else "source"):
                if isinstance(item, successor.accepts):
                    graph.run_node(successor, item, deliver)

        graph.open_all()
        try:
            for frame in _read(graph, source, stop or threading.Event()):
                deliver(None, frame)
            for node in graph.nodes:
                graph.flush_node(node, deliver)
        finally:
            graph.close_all()


class ThreadedRunner:
    """A thread for the source (the caller's) and one for each group of nodes that share a thread name."""

    def __init__(
        self, nodes: list[Node], ledger: Ledger, every_nth: int = 1, edges: dict[str, EdgePolicy] | None = None
    ) -> None:
        self.graph = _Graph(nodes, ledger, every_nth)
        policies = edges or {}
        unknown = set(policies) - set(self.graph.by_name)
        if unknown:
            raise ValueError(f"edges to unknown nodes {sorted(unknown)}; the nodes are {sorted(self.graph.by_name)}")
        self._inboxes = {node.thread: Inbox() for node in nodes if node.thread != "source"}
        self._edges: dict[tuple[str, str], Edge] = {}
        for node in nodes:
            for name in node.inputs:
                if self._thread_of(name) != node.thread:
                    if node.thread == "source":
                        raise ValueError(f"node {node.name}: runs in the source's thread, so cannot take from {name}")
                    policy = policies.get(node.name, EdgePolicy())
                    self._edges[name, node.name] = self._inboxes[node.thread].edge(
                        node.name, policy.policy, policy.depth, self._dropped
                    )
        self._errors: list[BaseException] = []

    def _thread_of(self, name: str) -> str:
        return "source" if name == "source" else self.graph.by_name[name].thread

    def _dropped(self, item: Any) -> None:
        key = frame_key(item)
        if key is not None:
            self.graph.ledger.end(*key, FrameStatus.DROPPED, "an edge was full")

    def _deliver(self, node: Node | None, item: Any) -> None:
        name = node.name if node else "source"
        for successor in self.graph.successors(name):
            if isinstance(item, successor.accepts):
                edge = self._edges.get((name, successor.name))
                if edge is None:
                    self.graph.run_node(successor, item, self._deliver)
                else:
                    edge.put(item)

    @property
    def failed(self) -> bool:
        """Whether a thread has failed, so that the run is ending."""
        return bool(self._errors)

    def queues(self) -> dict[str, int]:
        """Items that wait in front of each node that runs in another thread."""
        waiting = dict.fromkeys((target for _, target in self._edges), 0)
        for (_, target), edge in self._edges.items():
            waiting[target] += len(edge.items)
        return waiting

    def _close_edges_from(self, names: set[str]) -> None:
        for (origin, _), edge in self._edges.items():
            if origin in names:
                edge.close()

    def _finish(self, thread: str) -> None:
        nodes = [node for node in self.graph.nodes if node.thread == thread]
        for node in nodes:
            self.graph.flush_node(node, self._deliver)
        self._close_edges_from({node.name for node in nodes})

    def _work(self, thread: str) -> None:
        inbox = self._inboxes[thread]
        try:
            while (got := inbox.get()) is not None:
                self.graph.run_node(self.graph.by_name[got[0]], got[1], self._deliver)
            self._finish(thread)
        except Cancelled:
            pass
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._errors.append(error)
        for inbox in self._inboxes.values():
            inbox.cancel()

    def run(self, source: Iterable[Frame | MissingFrame], stop: threading.Event | None = None) -> None:
        """Drive the source through the graph until its end or until ``stop`` is set; then flush.

        Raises the first error of any thread, after all threads have ended and all stages are closed.
        """
        self.graph.open_all()
        threads = [threading.Thread(target=self._work, args=(name,), name=f"casa-{name}") for name in self._inboxes]
        try:
            for thread in threads:
                thread.start()
            try:
                for frame in _read(self.graph, source, stop or threading.Event()):
                    self._deliver(None, frame)
                self._finish("source")
                self._close_edges_from({"source"})
            except Cancelled:
                pass
            except BaseException as error:
                self._fail(error)
            for thread in threads:
                thread.join()
        finally:
            try:
                self.graph.close_all()
            except Exception as error:
                self._errors.append(error)
        if self._errors:
            raise self._errors[0]
