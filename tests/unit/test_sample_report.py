"""The report of a sample: its figures are the pool's, it needs nothing from elsewhere, and it says what is wrong."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from recordings import SESSION
from samples import record_field, sample_of

from casa.cli.sample_report import pdf_beside
from casa.errors import InputError
from casa.report.sample import css_text, write_sample_report
from casa.report.sample_pictures import FieldPicture, debris_notes, focus_notes
from casa.samples.pool import SampleFigures
from casa.samples.sample import Sample, add_field, new_sample

EVEN = (25, 15, 10, 50)


def report_of(folder: Path, **options) -> tuple[SampleFigures, str, Page]:
    figures = write_sample_report(folder, folder / "report.html", **options)
    source = (folder / "report.html").read_text(encoding="utf-8")
    return figures, source, Page(source)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[SampleFigures, str, Page]:
    """Two replicates of two fields, enough cells, as a replay leaves recordings."""
    folder = tmp_path_factory.mktemp("sample")
    sample_of(folder, ((60, 40, 20, 80), (60, 40, 20, 80)), ((60, 40, 20, 80), (60, 40, 20, 80)), whole=True)
    return report_of(folder)


def test_figures_are_those_of_the_pool(whole):
    figures, _, page = whole
    assert figures.accepted
    shown = page.values()
    for estimate in (*figures.pooled.motility_percent.values(), figures.pooled.concentration_m_per_ml, figures.total_m):
        assert any(abs((estimate.value or 0) - value) < 1e-9 for value in shown)
    for words in ("Sample S-1", "REPLICATES AGREE", "4 in 2 replicates", "400 + 400", "≥ 39 M", "≥ 1.4 mL",
                  "Sub-populations", "Expert grades", "Reviewed by", "not a diagnosis"):  # fmt: skip
        assert words.lower() in page.text.lower(), words


def test_it_needs_nothing_from_elsewhere(whole):
    _, source, page = whole
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object"}
        assert all((attributes.get(name) or "data:").startswith(("data:", "#")) for name in ("src", "href", "srcset"))
    assert source.count("data:image/jpeg") == 4  # a picture of each field
    assert "http" not in source.replace("http-equiv", "")


def test_each_recording_is_named_with_its_identity_and_the_weights(whole):
    figures, _, page = whole
    for field in figures.fields:
        assert field.recording_id in page.text
        assert field.path.name in page.text
    assert f"{'1-0':0>64}" in page.text  # check sum of the source


def test_groups_of_the_motile_tracks_are_shown(whole):
    _, source, page = whole
    assert "3 groups of 480 motile tracks" in page.text
    assert page.text.count("rapid, straight") == 2  # in the table, and over its paths
    assert source.count('class="origin-plot') == 3


def test_grades_and_heads_of_all_fields_are_pooled(whole):
    _, _, page = whole
    assert "Mean distribution over 4 tracks (32 clips) of 4 fields" in page.text
    assert "Of 32 tracks (32 clips), 28 showed a head well enough to be examined" in page.text
    assert "out of focus (4)" in page.text
    assert "The likeliest class of 28 heads" in page.text


def test_a_network_that_was_on_and_found_nothing_is_no_network_that_was_off(tmp_path):
    on = {"config": {"kinematics": {}, "grade": {"enabled": True}, "morphology": {"enabled": True}}}
    sample = new_sample(tmp_path, Sample("S"))
    for number in (1, 2):
        path = tmp_path / f"{number}.h5"
        sample = add_field(tmp_path, sample, path, record_field(path, EVEN, **on if number == 2 else {}), 1)
    _, _, page = report_of(tmp_path)
    said = "In field 2 it was on, but none of 100 tracks was {}, because of its clips this recording has no count"
    assert said.format("graded") in page.text
    assert said.format("examined") in page.text
    assert "No field was graded" not in page.text


def test_what_cannot_be_reported_yet_is_shouted(tmp_path):
    sample_of(tmp_path, (EVEN,))
    figures, source, page = report_of(tmp_path)
    assert not figures.accepted
    assert "COUNT MORE" in page.text
    assert 'role="alert"' in source
    for reason in figures.reasons:
        assert reason in page.text
    assert "There is one replicate only" in page.text
    assert "too few to look for sub-populations" in page.text
    assert "keeps no picture" in page.text
    assert "No field was graded" in page.text


def test_a_sample_without_sperm_depth_or_volume_makes_nothing_up(tmp_path):
    sample = new_sample(tmp_path, Sample("S"))
    flat = {name: value for name, value in SESSION["calibration"].items() if name != "chamber_depth_um"}
    path = tmp_path / "1.h5"
    add_field(tmp_path, sample, path, record_field(path, (0, 0, 0, 0), 0.0, whole=True, calibration=flat), 1)
    _, _, page = report_of(tmp_path)
    assert page.text.count("not known: the chamber depth is not known") == 1
    assert page.text.count("not known: volume not entered") == 2
    assert "No sperm seen (all fields)" in page.text
    assert "There is no velocity to show" in page.text


def test_replicates_that_differ_are_told(tmp_path):
    sample_of(tmp_path, ((120, 40, 20, 40),), ((60, 20, 20, 120),))
    _, _, page = report_of(tmp_path)
    assert "progressive motility: 73 and 36 %" in page.text
    assert "no, decides" in page.text
    assert "Field unlike the others" in page.text or "Fields unlike the others" in page.text


@pytest.mark.parametrize("name", ["sample.html.j2", "parts.html.j2", "heads.html.j2"])
def test_the_templates_have_no_words_of_their_own(name):
    """All words are in `casa.report.sample_texts` and `texts`: whoever translates or corrects them has one place."""
    template = (resources.files("casa.report") / "templates" / name).read_text(encoding="utf-8")
    plain = re.sub(r"\{[%#].*?[%#]\}|<style>.*?</style>", "", template, flags=re.DOTALL)
    labels = re.findall(r'(?:aria-label|alt|title)="([^"]*)"', plain)
    assert labels
    assert all(label.startswith("{{") for label in labels)
    assert re.findall(r"[A-Za-z]{2,}", re.sub(r"\{\{.*?\}\}|<.*?>", "", plain, flags=re.DOTALL)) == []


def test_hostile_ids_stay_words(tmp_path):
    hostile = '</style><script>alert(1)</script> "} @import url(//example.org)'
    sample = new_sample(tmp_path, Sample(hostile, "<b onclick=x>"))
    path = tmp_path / "1.h5"
    add_field(tmp_path, sample, path, record_field(path, EVEN), 1)
    _, source, page = report_of(tmp_path)
    assert "<script" not in source
    assert hostile in page.text
    style = source.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    assert css_text('a"\n;é') == "a\\000022\\00000a\\00003b\\0000e9"


def test_cautions_name_their_fields(tmp_path):
    sample = new_sample(tmp_path, Sample("S"))
    old = SESSION["calibration"] | {"measured_on": "2020-01-01"}
    for number in range(3):
        path = tmp_path / f"{number}.h5"
        own = {"calibration": old} if number == 1 else {}
        sample = add_field(tmp_path, sample, path, record_field(path, EVEN, **own), 1 + number % 2)
    _, _, page = report_of(tmp_path)
    assert "Calibration out of date (field 2)" in page.text
    assert "Calibration not verified (all fields)" in page.text


def picture(sharpness: float | None = None, **confidence: float) -> FieldPicture:
    return FieldPicture(None, sharpness, {int(k[1:]): v for k, v in confidence.items()}, ())


def test_a_field_out_of_focus_stands_out():
    assert focus_notes([picture(0.5), picture(0.45), picture(0.55)]) == []
    ((note, numbers),) = focus_notes([picture(0.5), picture(0.2), picture(0.55)])
    assert numbers == (2,)
    assert "40 %" in note.text


def test_still_objects_that_the_detector_doubts_may_be_debris():
    rng = np.random.default_rng(0)
    motile = {f"t{k}": float(v) for k, v in enumerate(rng.uniform(0.7, 0.9, 40))}
    still = {f"t{k}": float(v) for k, v in enumerate(rng.uniform(0.7, 0.9, 20), 40)}
    doubted = {f"t{k}": 0.4 for k in range(60, 80)}
    shades = dict.fromkeys(range(40), "a") | dict.fromkeys(range(40, 80), "d")
    assert debris_notes([picture(None, **motile, **still)], [shades]) == []
    ((note, numbers),) = debris_notes([picture(None, **motile, **still, **doubted)], [shades])
    assert numbers == (1,)
    assert "Of 40 immotile objects" in note.text


def test_a_report_is_not_written_over_what_it_is_made_of(tmp_path):
    sample_of(tmp_path, (EVEN,))
    with pytest.raises(InputError, match="is the recording itself"):
        write_sample_report(tmp_path, tmp_path / "1-0.h5", force=True)
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        write_sample_report(tmp_path, tmp_path / "mine.html")
    for wanted in (True, False):
        with pytest.raises(InputError, match=r"mine\.pdf: is to be the HTML file .*; --pdf writes the PDF beside it"):
            pdf_beside(tmp_path / "mine.pdf", wanted, force=False)
    with pytest.raises(InputError, match="holds no sample"):
        write_sample_report(tmp_path / "none", tmp_path / "r.html")
