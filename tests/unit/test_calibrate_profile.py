"""Profiles: what is written is read, what does not fit is refused, what is old is said."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from casa.calibrate.profile import Profile, cautions, check_fits, load_profile, read_profile, write_profile
from casa.cli.calibrate_use import contradiction, warn_of
from casa.config import CameraConfig, SourceConfig
from casa.errors import InputError
from casa.report.provenance import scale_group
from casa.sources import open_live_source, open_source
from casa.types import Calibration, SourceInfo

CALIBRATION = Calibration(
    "scope", 0.41, 0.42, 640, 480, 0.2, 20.0, verified=True, microscope="BX", objective="20x", camera="ace", binning=2,
    measured_on="2026-11-21", valid_days=90, used_by="ana, bo",
)  # fmt: skip
SOURCE = SourceInfo("camera:0", 640, 480, 50.0, None, "host")


def test_a_profile_with_steps_is_read_as_it_was_written(tmp_path):
    steps = {
        "stage": {"date": "2026-11-21", "um_to_px": ((2.4, 0.1), (-0.1, 2.4)), "mirrored": False},
        "field": {"date": "2026-11-21", "bad_pixels": np.array([[3, 4]]), "read_noise_levels": None, "level": 0.2},
    }
    write_profile(tmp_path / "p.toml", Profile(CALIBRATION, steps))
    found = read_profile(tmp_path / "p.toml")
    assert found.calibration == CALIBRATION
    assert found.steps["stage"]["um_to_px"] == [[2.4, 0.1], [-0.1, 2.4]]
    assert found.steps["field"] == {"date": "2026-11-21", "bad_pixels": [[3, 4]], "level": 0.2}


@pytest.mark.parametrize(
    ("factor", "of_step", "agrees", "day"),
    [(0.95, 0.95, False, "2026-11-20"), (1.0, 1.0, True, "2026-11-20"), (1.1, 0.95, False, ""), (1.0, 1.0, False, "")],
)
def test_a_chamber_factor_that_beads_gave_is_known_as_measured(tmp_path, factor, of_step, agrees, day):
    """Not one that was entered afterwards, nor the 1 of beads that were not believed."""
    beads = {"date": "2026-11-20", "factor": of_step, "beads_count": 700, "beads_agrees": agrees}
    write_profile(tmp_path / "p.toml", Profile(replace(CALIBRATION, chamber_factor=factor), {"chamber": beads}))
    found = load_profile(tmp_path / "p.toml")
    assert found.beads_counted_on == day
    items = {item.label: item for item in scale_group(found).items}
    assert items["Chamber factor"].known_by == (
        f"measured with certified beads on {day}" if day else "entered" if factor != 1 else ""
    )
    write_profile(tmp_path / "again.toml", found)
    assert load_profile(tmp_path / "again.toml") == found


def test_a_scale_that_the_source_contradicts_is_told():
    profile = replace(CALIBRATION, um_per_px_x=0.4, um_per_px_y=0.4)
    (line,) = contradiction(profile, "simulator:magnified:0", 0.2)
    assert "'scope' says 0.4 um/px, and simulator:magnified:0 has 0.2" in line
    assert "will be 100 % too large" in line
    assert contradiction(profile, "simulator:default:0", 0.4015) == []
    assert contradiction(replace(profile, uncertainty_percent=5.0), "simulator:default:0", 0.41) == []


@pytest.mark.parametrize("uri", ["simulator:magnified", "simulator:default"])
def test_the_simulator_contradicts_a_profile_of_another_preset(uri, capsys):
    profile = load_profile("simulator")
    with open_source(uri, SourceConfig(max_frames=2)) as source:
        warn_of(profile, source)
    with open_live_source(uri, CameraConfig(fps_hz=20.0)) as camera:
        warn_of(profile, camera)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (2 if "magnified" in uri else 0)
    assert all("calibration 'simulator' says 0.4 um/px, and simulator:magnified:0 has 0.2" in line for line in lines)


def test_flat_profiles_of_before_still_load(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text('name = "old"\num_per_px_x = 0.4\num_per_px_y = 0.4\nverified = true\n')
    found = load_profile(path)
    assert (found.name, found.measured_on, found.valid_until) == ("old", "", None)
    assert cautions(found, date(2030, 1, 1)) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("measured_on = 3", "measured_on: expected a date"),
        ("valid_days = -1", "valid_days: expected a positive whole number"),
        ("[stage]\nx = 1", "stage: expected a table"),
        ("[lens]\nx = 1", "lens: no such key"),
        ("binning = 1.5", "binning"),
    ],
)
def test_what_does_not_belong_is_named(tmp_path, line, words):
    path = tmp_path / "p.toml"
    path.write_text(f"um_per_px_x = 0.4\num_per_px_y = 0.4\n{line}\n")
    with pytest.raises(InputError, match=words):
        read_profile(path)


def test_size_and_binning_must_fit():
    check_fits(CALIBRATION, SOURCE, 2)
    check_fits(CALIBRATION, SOURCE)
    with pytest.raises(InputError, match="binning 2 and the camera is set to 1"):
        check_fits(CALIBRATION, SOURCE, 1)
    with pytest.raises(InputError, match="640x480 px and the source has 320x240"):
        check_fits(CALIBRATION, replace(SOURCE, width_px=320, height_px=240))


def test_what_speaks_against_a_profile_is_said():
    assert cautions(CALIBRATION, date(2026, 12, 1), "ana") == []
    assert "valid until 2027-02-19" in cautions(CALIBRATION, date(2027, 3, 1), "ana")[0]
    assert "is for ana, bo, and this is cy" in cautions(CALIBRATION, date(2026, 12, 1), "cy")[0]
    assert "never checked" in cautions(replace(CALIBRATION, verified=False), date(2026, 12, 1), "bo")[0]


def test_the_scales_uncertainty_is_carried_into_speeds():
    assert CALIBRATION.scale_uncertainty(52.0) == pytest.approx(0.104)
    assert replace(CALIBRATION, uncertainty_percent=None).scale_uncertainty(52.0) is None
