"""``casa top``: how a running session is doing, in a table that renews itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import Keys

if TYPE_CHECKING:
    from casa.bus.messages import Metrics


def top(
    endpoint: Annotated[
        str | None, typer.Argument(help="The session: a name, ipc://FOLDER or tcp://HOST:PORT.")
    ] = None,
    keys: Keys = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object; with --once.")] = False,
) -> None:
    """Show rates, latency, drops, queues and processes of a running session; Ctrl-C ends it."""
    from casa.bus.address import Endpoint
    from casa.bus.keys import load_client_keys
    from casa.bus.messages import GetStatus, StatusReply
    from casa.bus.subscriber import ControlClient, Subscriber
    from casa.errors import CasaError, InputError

    if as_json and not once:
        raise InputError("--json: prints one object, so it needs --once")
    where = Endpoint.parse(endpoint)
    own = load_client_keys(keys) if keys is not None else None
    with ControlClient(where, own) as control:
        reply = control.request(GetStatus())
    if not isinstance(reply, StatusReply):
        raise CasaError(f"{where}: the reply is no status")
    if once and as_json:
        import msgspec

        from casa.cli.output import print_json

        print_json({"endpoint": str(where), "state": reply.state, **msgspec.to_builtins(reply.metrics)})
        return
    from rich.console import Console

    console = Console()
    if once:
        console.print(_table(str(where), reply.state, reply.metrics))
        return
    from rich.live import Live

    state, metrics = reply.state, reply.metrics
    with Subscriber(where, own, views=False) as subscriber, Live(console=console, auto_refresh=False) as shown:
        try:
            while state not in ("ended", "failed"):
                shown.update(_table(str(where), state, metrics), refresh=True)
                subscriber.wait(1.0)
                metrics, state = _newest(subscriber, metrics, state)
                time.sleep(0.2)
            shown.update(_table(str(where), state, metrics), refresh=True)
        except KeyboardInterrupt:
            pass


def _newest(subscriber: Any, metrics: Metrics, state: str) -> tuple[Metrics, str]:
    from casa.bus.messages import Metrics as M
    from casa.bus.messages import SessionEnd

    for event in subscriber.events():
        if isinstance(event, M):
            metrics, state = event, "running"
        elif isinstance(event, SessionEnd):
            state = "failed" if event.status == "failed" else "ended"
    if subscriber.silent_s > 3 and state not in ("ended", "failed"):
        state = f"silent for {subscriber.silent_s:.0f} s"
    return metrics, state


def _table(endpoint: str, state: str, metrics: Metrics) -> Any:
    from rich.table import Table

    account = metrics.account
    table = Table(title=f"casa at {endpoint}: {state}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "frames", f"{account.captured} captured, {account.processed} processed, {metrics.under_way} under way"
    )
    bad = "red" if account.dropped or account.failed else "green"
    lost = f"{account.skipped} skipped, [{bad}]{account.dropped} dropped, {account.failed} failed[/]"
    table.add_row("", lost)
    table.add_row("a second", f"{metrics.captured_fps:.1f} captured, {metrics.processed_fps:.1f} processed")
    table.add_row("latency", f"p50 {_ms(metrics.latency_p50_ms)}, p99 {_ms(metrics.latency_p99_ms)}")
    table.add_row("stages", ", ".join(f"{name} {_ms(value)}" for name, value in metrics.stage_ms.items()))
    table.add_row("queues", ", ".join(f"{name} {n}" for name, n in metrics.queues.items()))
    for client in metrics.clients:
        there = "" if client.connected else "[red]away[/], "
        gap = f", [red]{client.left_out} left out[/]" if client.left_out else ""
        queued = f"{client.queued} waiting ({client.queued_bytes / 1e6:.1f} MB)"
        table.add_row(client.name, f"{there}{client.written} of {client.sent} messages written, {queued}{gap}")
    if (g := metrics.grading) is not None:
        lost = f"{g.superseded} superseded, {g.left_out} left out, {g.failed} failed"
        table.add_row("clips", f"{g.taken} taken, {g.graded} graded (of {g.tracks} tracks), {lost}")
        colour = "green" if g.graders else "red"
        busy = f"{100 * g.busy_share:.0f} % of a core"
        table.add_row("graders", f"[{colour}]{g.graders}[/], {busy}; {g.waiting} clips wait, {g.under_way} under way")
    if (g := metrics.morphology) is not None:
        lost = f"{sum(g.abstained.values())} without a head to class, {g.superseded} superseded, {g.left_out} left out"
        table.add_row("heads", f"{g.taken} clips taken, {g.graded} examined (of {g.tracks} tracks), {lost}")
        colour, busy = "green" if g.graders else "red", f"{100 * g.busy_share:.0f} % of a core"
        table.add_row("morphology", f"[{colour}]{g.graders}[/], {busy}; {g.waiting} clips wait, {g.failed} failed")
    table.add_row("viewers", str(metrics.viewers))
    for process in metrics.processes:
        again = f", started again {process.restarts} times" if process.restarts else ""
        table.add_row(process.name, f"{process.state}, process {process.pid}{again} {process.note}")
    if metrics.bad_messages:
        table.add_row("bad messages", f"[red]{metrics.bad_messages}[/]")
    if metrics.recording:
        table.add_row("recording", metrics.recording)
    return table


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} ms"
