"""The tracker on real routes with simulated detections: floors a little below the scores in docs/tracker.md.

The references are the best of three other trackers' means over all 12 videos of the challenge (ultralytics' ByteTrack
and BoT-SORT, norfair), as the data's own description gives them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from casa.evaluate.tracking import combine_scores, tracking_scores
from casa.tables import read_detections, read_tracks
from casa.track import track_table

#: Best reference at each rate: HOTA, IDF1.
REFERENCE = {"49": (0.769, 0.940), "24.5": (0.735, 0.907), "12.25": (0.683, 0.825)}
#: Floors of two videos together: HOTA, IDF1, and the most identity switches. Neither was used for tuning.
VIDEOS = ("15", "38")
FLOOR = {"49": (0.845, 0.972, 4), "24.5": (0.795, 0.950, 8), "12.25": (0.740, 0.920, 9)}


@pytest.mark.parametrize("rate", list(FLOOR))
def test_scores_stay_above_their_floor_and_every_reference(shared_data: Path, rate: str):
    folder = shared_data / "tracker_challenge"
    fps_hz = float(rate)
    by_video = {
        video: tracking_scores(
            read_tracks(folder / f"{video}_fps{rate}.gt.csv.gz", fps_hz),
            track_table(read_detections(folder / f"{video}_fps{rate}.det.csv.gz", fps_hz)),
        )
        for video in VIDEOS
    }
    scores = combine_scores(by_video)
    hota, idf1, most_switches = FLOOR[rate]
    assert scores["hota"] >= hota > REFERENCE[rate][0]
    assert scores["idf1"] >= idf1 > REFERENCE[rate][1]
    assert scores["idsw"] <= most_switches
