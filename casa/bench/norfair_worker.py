"""Norfair over a table of detections, for an interpreter that has norfair and not casa: run as a script.

Norfair needs an older NumPy than casa, so it runs in an interpreter of its own. Reads lines ``picture,cx,cy,w,h,
confidence`` from standard input, pictures rising from 0, empty ones left out. Writes lines ``picture,left,top,right,
bottom,id,confidence``, and last ``cpu_s,SECONDS,norfair,VERSION``. Imports nothing of casa.
"""

import sys
import time

#: norfair's settings: Euclidean distance of centres, px, and frames a new object is watched before it counts.
DISTANCE_PX = 20
DELAY_FRAMES = 2


def main() -> int:
    """Track what is on standard input."""
    from importlib.metadata import version

    import norfair  # pyright: ignore[reportMissingImports]
    import numpy as np

    rows = [line.split(",") for line in sys.stdin.read().splitlines() if line]
    pictures = [int(row[0]) for row in rows]
    values = np.array([[float(cell) for cell in row[1:]] for row in rows]).reshape(-1, 5)
    by_picture = [[] for _ in range(max(pictures, default=-1) + 1)]
    for row, picture in enumerate(pictures):
        by_picture[picture].append(row)
    start_s = time.process_time()
    tracker = norfair.Tracker(
        distance_function="euclidean", distance_threshold=DISTANCE_PX, initialization_delay=DELAY_FRAMES
    )
    lines = []
    for picture, here in enumerate(by_picture):
        found = [norfair.Detection(points=values[row : row + 1, :2], data=row) for row in here]
        for thing in tracker.update(found):
            # A box is that of the object's last detection, moved with it.
            w, h, confidence = values[thing.last_detection.data, 2:]
            x, y = thing.estimate[0]
            lines.append((picture, x - w / 2, y - h / 2, x + w / 2, y + h / 2, thing.id, confidence))
    cpu_s = time.process_time() - start_s
    for line in lines:
        print(",".join(repr(float(cell)) for cell in line))
    print(f"cpu_s,{cpu_s!r},norfair,{version('norfair')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
