"""Recordings that lie elsewhere than when they were analysed: known by their content, they are not analysed again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from casa.batch.content import content_sha256, sample_sha256, stamp_and_size
from casa.batch.inputs import Item, told_twice
from casa.batch.store import is_remote


def find_moved(
    items: Sequence[Item],
    marks: dict[str, dict[str, Any]],
    skip_duplicates: bool = False,
    said: Callable[[str], None] = lambda _: None,
) -> tuple[list[Item], dict[str, dict[str, Any]]]:
    """The items without copies of what is finished, and by URI the marks of those that moved, as they are to be now.

    Only local items are looked at, and read whole only where size, beginning and end are those of a finished one that
    is not among ``items``. One that is still at its old place, too, or where nobody can look from here, is a copy.

    Raises
    ------
    InputError : a copy of what is finished, and ``skip_duplicates`` is not given.
    """
    given, finished = {item.uri for item in items}, {mark["uri"] for mark in marks.values()}
    by_size = defaultdict(list)
    for mark in marks.values():
        if mark["uri"] not in given and mark["n_bytes"] and mark["sha256"]:
            by_size[mark["n_bytes"]].append(mark)
    kept, moved = [], {}
    for item in items:
        known = [] if item.uri in finished or is_remote(item.uri) else by_size.get(item.n_bytes or 0, [])
        mark = _same(item, known)
        if mark is not None and _is_where_it_was(mark):
            what = f"{item.uri}: is a copy of {mark['uri']}, which is finished there as {mark['recording']}"
            told_twice(what, skip_duplicates, said)
            continue
        kept.append(item)
        if mark is not None:
            moved[item.uri] = mark | {"uri": item.uri, "stamp": item.stamp}
    return kept, moved


def _is_where_it_was(mark: dict[str, Any]) -> bool:
    """Whether a finished recording is still at its place: another one may have its name by now."""
    if is_remote(mark["uri"]):
        return True
    place = Path(mark["uri"])
    with suppress(OSError):
        stamp, n_bytes = stamp_and_size(place)
        return stamp == mark["stamp"] or (n_bytes == mark["n_bytes"] and content_sha256(place) == mark["sha256"])
    return False


def _same(item: Item, marks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The mark of a recording that has the item's content; what cannot be read has nobody's."""
    with suppress(OSError):
        sample = sample_sha256(Path(item.uri)) if marks else None
        alike = [mark for mark in marks if mark.get("sample") == sample]
        sha256 = content_sha256(Path(item.uri)) if alike else None
        return next((mark for mark in alike if mark["sha256"] == sha256), None)
    return None
