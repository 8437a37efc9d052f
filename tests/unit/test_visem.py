"""VISEM's folder and tables, in the published format and in the ways it can be wrong."""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import pytest

from casa.config import SourceConfig
from casa.errors import InputError
from casa.sources.visem import read_clinical_table, read_video_list, read_visem

SEMEN = (
    "\ufeffID;Sperm concentration (x10⁶/mL);Normal spermatozoa (%);Progressive motility (%);"
    "DNA fragmentation index, DFI (%)\r\n"
    "1;30,0;2,5;61;15,6\r\n"
    "2;94;;40;NA\r\n"
    "85;0,5;1e0;0;-0,25\r\n"
)


def write_video(path: Path, n: int = 5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=50)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(n):
            image = np.full((48, 64, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def visem(tmp_path) -> Path:
    root = tmp_path / "visem"
    write_video(root / "videos" / "1_09.09.02_SSW.avi")
    write_video(root / "videos" / "85_10.01.11_TBH.avi")
    (root / "videos.csv").write_text(
        "\ufeffID;video\r\n1;1_09.09.02_SSW.avi\r\n2;2_09.10.01_SSW.avi\r\n85;85_10.01.11_TBH.avi\r\n", encoding="utf-8"
    )
    (root / "semen_analysis_data.csv").write_text(SEMEN, encoding="utf-8")
    (root / "participant_related_data.csv").write_text(
        "ID;Abstinence time(days);Body mass index (kg/m²);Age (years)\n1;3;24,5;33\n", encoding="utf-8"
    )
    (root / "sex_hormones.csv").write_text("ID;Serum inhibin B (ng/L)\n1;180,5\n", encoding="utf-8")
    (root / "fatty_acids_serum.csv").write_text("ID;C14:0\n1;0,29\n", encoding="utf-8")
    (root / "fatty_acids_spermatoza.csv").write_text("ID;C14:0\n1;0,86\n", encoding="utf-8")
    (root / "descriptions.txt").write_text("what the columns mean")
    return root


def test_the_published_layout_is_read(visem):
    data = read_visem(visem)
    assert list(data.videos) == [1, 85]
    assert data.missing_videos == (2,)
    assert set(data.clinical) == {
        "semen_analysis", "participant", "sex_hormones", "fatty_acids_serum", "fatty_acids_spermatozoa"
    }  # fmt: skip
    assert data.clinical["participant"].of(1)["Body mass index (kg/m²)"] == 24.5
    assert data.clinical["fatty_acids_spermatozoa"].of(1) == {"C14:0": 0.86}
    with data.open(85, SourceConfig()) as source:
        assert len(list(source)) == 5
    with pytest.raises(InputError, match="participant 2"):
        data.open(2, SourceConfig())


def test_decimal_commas_empty_cells_and_the_byte_order_mark(visem):
    table = read_clinical_table(visem / "semen_analysis_data.csv")
    assert table.participant_id.tolist() == [1, 2, 85]
    assert len(table) == 3
    row = table.of(2)
    assert row["Sperm concentration (x10⁶/mL)"] == 94.0
    assert math.isnan(row["Normal spermatozoa (%)"])
    assert math.isnan(row["DNA fragmentation index, DFI (%)"])
    assert table.of(85)["DNA fragmentation index, DFI (%)"] == -0.25
    with pytest.raises(KeyError):
        table.of(3)


def test_the_excerpts_of_visem_tracking_with_commas_and_points_are_read(tmp_path):
    path = tmp_path / "semen_analysis_data_Train.csv"
    path.write_text('ID,Sperm vitality (%),"DNA fragmentation index, DFI (%)"\n11,82.5,7.25\n', encoding="utf-8")
    assert read_clinical_table(path).of(11) == {"Sperm vitality (%)": 82.5, "DNA fragmentation index, DFI (%)": 7.25}
    assert read_visem(tmp_path).clinical["semen_analysis"].of(11)["Sperm vitality (%)"] == 82.5


def test_without_a_list_videos_go_by_the_number_in_front(visem):
    (visem / "videos.csv").unlink()
    assert list(read_visem(visem).videos) == [1, 85]
    write_video(visem / "more" / "1_09.09.03_SSW.avi")
    with pytest.raises(InputError, match="second video"):
        read_visem(visem)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("number;x\n1;2\n", "ID is missing"),
        ("ID;x\n1;2;3\n", ":2: expected 2 values, got 3"),
        ("ID;x\n1;2\n1;3\n", ":3: participant 1 is there twice"),
        ("ID;x\n1,5;2\n", "whole number"),
        ("ID;x\n1;much\n", ":2: x: expected a number or nothing, got 'much'"),
        ("ID;x\n1;<0,05\n", "expected a number"),
        ("ID;x\n1;inf\n", "expected a number"),
        ("ID;x;x\n1;2;3\n", "there twice"),
    ],
)
def test_a_wrong_table_says_where(tmp_path, text, said):
    path = tmp_path / "sex_hormones.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said) as raised:
        read_clinical_table(path)
    assert "\n" not in str(raised.value)


def test_a_table_in_another_encoding_is_an_error(tmp_path):
    path = tmp_path / "sex_hormones.csv"
    path.write_bytes("ID;Serum x (µg)\n1;2\n".encode("utf-16"))
    with pytest.raises(InputError, match="UTF-8"):
        read_clinical_table(path)


def test_wrong_lists_and_folders_say_so(tmp_path, visem):
    with pytest.raises(InputError, match="no such folder"):
        read_visem(tmp_path / "nowhere")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="neither videos nor tables"):
        read_visem(tmp_path / "nothing")
    (visem / "copy").mkdir()
    (visem / "copy" / "sex_hormones.csv").write_text("ID;x\n1;2\n")
    with pytest.raises(InputError, match="second sex_hormones table"):
        read_visem(visem)
    (tmp_path / "videos.csv").write_text("ID;video;more\n1;a.avi;2\n")
    with pytest.raises(InputError, match="two columns"):
        read_video_list(tmp_path / "videos.csv")
    (tmp_path / "videos.csv").write_text("ID;video\n1;a.avi\n1;b.avi\n")
    with pytest.raises(InputError, match="twice"):
        read_video_list(tmp_path / "videos.csv")
