"""Sets of head crops: each published layout, on small made-up files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from casa.errors import InputError
from casa.morphology.datasets import UNLABELLED, HeadImages, majority, read_heads, read_picture, votes, write_heads

RNG = np.random.default_rng(3)


def put(path: Path, size: tuple[int, ...] = (35, 35), dtype=np.uint8, value: int | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    top = np.iinfo(dtype).max if value is None else value
    image = RNG.integers(0, top, size, dtype=dtype, endpoint=True)
    assert cv2.imwrite(str(path), image)
    return image


def test_hushem(tmp_path: Path):
    for folder in ("01_Normal", "02_Tapered", "03_Pyriform", "04_Amorphous"):
        for k in (1, 2):
            bgr = put(tmp_path / folder / f"image_{k:03d}.BMP", (131, 131, 3))
    heads = read_heads(tmp_path)
    assert heads.name == "hushem"
    assert heads.images.shape == (8, 131, 131, 3)
    assert heads.class_names == ("normal", "tapered", "pyriform", "amorphous")
    assert heads.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert heads.ids[-1] == "04_Amorphous/image_002.BMP"
    np.testing.assert_array_equal(heads.images[-1], bgr[..., ::-1])


def test_scian_with_three_experts(tmp_path: Path):
    for k in range(4):
        put(tmp_path / "images" / f"{k}.tif")
    (tmp_path / "labels.csv").write_text(
        "image,expert_1,expert_2,expert_3\n0.tif,Normal,Normal,Normal\n1.tif,Normal,Small,Small\n"
        "2.tif,Tapered,Pyriform,Amorphous\n3.tif,Amorphous,,Amorphous\n"
    )
    heads = read_heads(tmp_path, "scian")
    assert heads.class_names == ("normal", "tapered", "pyriform", "amorphous", "small")
    assert heads.images.shape == (4, 35, 35)
    assert heads.labels.tolist() == [0, 4, UNLABELLED, 3]
    assert heads.experts is not None
    assert heads.experts[3].tolist() == [3, UNLABELLED, 3]
    assert heads.agreed(2).ids == ("0.tif", "1.tif", "3.tif")
    assert heads.agreed(3).ids == ("0.tif",)


def test_scian_as_folders_of_the_agreed_crops(tmp_path: Path):
    for split in ("train", "test"):
        for name in ("Normal", "Tapered", "Pyriform", "Amorphous", "Small"):
            put(tmp_path / "Partial-Agreement-Images" / split / name / "ch00_sperm1.tif")
    heads = read_heads(tmp_path)
    assert heads.name == "scian"
    assert len(heads.split("train")) == len(heads.split("test")) == 5
    with pytest.raises(InputError, match="no labels of single experts"):
        heads.agreed(2)


def test_smids_crops_of_several_sizes_keep_their_proportions(tmp_path: Path):
    for k, name in enumerate(("Normal_Sperm", "Abnormal_Sperm", "Non-Sperm")):
        path = tmp_path / name / f"{k}.bmp"
        path.parent.mkdir()
        image = np.full((120 + 40 * k, 160, 3), (200, 180, 160), np.uint8)
        cv2.circle(image, (80, 60 + 20 * k), 30, (90, 60, 120), -1)
        cv2.imwrite(str(path), image)
    heads = read_heads(tmp_path)
    assert heads.name == "smids"
    assert heads.class_names == ("normal", "abnormal", "non-sperm")
    assert heads.images.shape == (3, 160, 160, 3)
    for image in heads.images:
        ys, xs = np.nonzero(image[..., 0] < 140)
        assert np.ptp(ys) == pytest.approx(np.ptp(xs), abs=2)  # a circle stays one


def test_svia_and_a_set_of_its_own(tmp_path: Path):
    put(tmp_path / "svia" / "sperm" / "1.png")
    put(tmp_path / "svia" / "impurity" / "1.png")
    heads = read_heads(tmp_path / "svia")
    assert (heads.name, heads.class_names) == ("svia", ("sperm", "impurity"))
    put(tmp_path / "own" / "pin" / "1.png")
    put(tmp_path / "own" / "round" / "1.png")
    heads = read_heads(tmp_path / "own")
    assert (heads.name, heads.class_names) == ("own", ("pin", "round"))


def test_smd_mss_is_a_table_of_three_experts_with_the_classes_it_uses(tmp_path: Path):
    for k in range(3):
        put(tmp_path / "images" / f"S{k}.jpg", (80, 80))
    (tmp_path / "experts.csv").write_text(
        "Image;Expert 1;Expert 2;Expert 3\nS0;Tapered head;Tapered head;Thin head\n"
        "S1;Normal;Normal;Normal\nS2;Thin head;;\n"
    )
    heads = read_heads(tmp_path, "smd-mss")
    assert heads.class_names == ("normal", "tapered-head", "thin-head")
    assert heads.labels.tolist() == [1, 0, 2]


def test_mhsma(tmp_path: Path):
    for split, n in (("train", 5), ("valid", 3), ("test", 2)):
        np.save(tmp_path / f"x_64_{split}.npy", RNG.integers(0, 255, (n, 64, 64), np.uint8))
        for part in ("head", "acrosome", "vacuole", "tail"):
            np.save(tmp_path / f"y_{part}_{split}.npy", np.arange(n, dtype=np.uint8) % 2)
    heads = read_heads(tmp_path, label="vacuole")
    assert heads.class_names == ("normal", "abnormal")
    assert [len(heads.split(s)) for s in ("train", "valid", "test")] == [5, 3, 2]
    assert heads.split("train").labels.tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(InputError, match="labels head, acrosome, vacuole, tail, not 'neck'"):
        read_heads(tmp_path, label="neck")
    np.save(tmp_path / "y_head_valid.npy", np.zeros(4, np.uint8))
    with pytest.raises(InputError, match=r"do not belong together"):
        read_heads(tmp_path)
    (tmp_path / "y_head_valid.npy").unlink()
    with pytest.raises(InputError, match=r"y_head_valid.npy: missing"):
        read_heads(tmp_path)
    (tmp_path / "y_head_valid.npy").write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"y_head_valid.npy: not a NumPy array"):
        read_heads(tmp_path)


def test_the_real_mhsma(shared_data: Path):
    heads = read_heads(shared_data / "mhsma", label="acrosome")
    assert heads.images.shape == (1540, 64, 64)
    assert heads.split("train").labels.sum() == 301


def test_what_is_written_is_read_again(tmp_path: Path):
    n = 6
    heads = HeadImages(
        RNG.integers(0, 255, (n, 20, 24, 3), np.uint8),
        np.array([0, 1, 2, 0, -1, 1]),
        ("a", "b", "c"),
        tuple(f"{k}.png" for k in range(n)),
        groups=tuple("xxyyzz"),
        splits=("train", "train", "valid", "valid", "test", ""),
        experts=np.array([[0, 1], [1, 1], [2, -1], [0, 0], [-1, -1], [1, 2]]),
    )
    write_heads(tmp_path / "set", heads)
    again = read_heads(tmp_path / "set")
    np.testing.assert_array_equal(again.images, heads.images)
    for column in ("labels", "experts"):
        np.testing.assert_array_equal(getattr(again, column), getattr(heads, column))
    for column in ("class_names", "ids", "groups", "splits"):
        assert getattr(again, column) == getattr(heads, column)


@pytest.mark.parametrize(("brightest", "white"), [(1000, 1023), (3000, 4095), (60000, 65535)])
def test_sixteen_bits_become_eight_by_the_cameras_white(tmp_path: Path, brightest: int, white: int):
    image = np.full((30, 30), brightest, np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), image)
    assert read_picture(tmp_path / "deep.png").dtype == np.uint16
    assert read_heads(tmp_path).images[0, 0, 0] == round(brightest * 255 / white)


def test_pictures_without_labels(tmp_path: Path):
    put(tmp_path / "1.png")
    put(tmp_path / ".hidden" / "2.png")
    heads = read_heads(tmp_path)
    assert heads.labels.tolist() == [UNLABELLED]
    assert heads.class_names == ()


def test_votes():
    experts = np.array([[0, 0, 1], [0, 1, 2], [2, -1, -1], [-1, -1, -1]])
    assert votes(experts, 3).tolist() == [[2, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert majority(experts, 3).tolist() == [0, -1, 2, -1]


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"HeadImages.ids: expected 2 names, got 1"):
        HeadImages(np.zeros((2, 3, 3)), np.zeros(2), ("a",), ("one",))
    with pytest.raises(ValueError, match=r"labels must be -1 or an index"):
        HeadImages(np.zeros((1, 3, 3)), np.ones(1), ("a",), ("one",))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,label\n1.png,normal\ngone.png,normal\n", r"1 of 2 pictures it names are missing \(gone.png\)"),
        ("image,label\n1.png,normal\n1.png,normal\n", r"1.png is listed twice"),
        ("image,label\n1.png,strange\n", r"line 2, label: 'strange' is none of normal, tapered"),
        ("image,thing\n1.png,normal\n", r"neither a column label nor expert columns"),
        ("image,label\n", r"no crops in it"),
    ],
)
def test_a_wrong_table_is_one_clear_line(tmp_path: Path, table: str, message: str):
    put(tmp_path / "1.png")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        read_heads(tmp_path, "hushem")


def test_other_wrong_input(tmp_path: Path):
    with pytest.raises(InputError, match="no such folder"):
        read_heads(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no pictures in it"):
        read_heads(tmp_path)
    with pytest.raises(InputError, match="layout 'xyz' is not known"):
        read_heads(tmp_path, "xyz")
    put(tmp_path / "05_Strange" / "1.png")
    with pytest.raises(InputError, match="its folder is none of hushem's classes"):
        read_heads(tmp_path, "hushem")
    (tmp_path / "05_Strange" / "2.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2.png: not a picture that can be read"):
        read_heads(tmp_path)
    (tmp_path / "labels.csv").write_text("name,said\n1.png,normal\n")
    with pytest.raises(InputError, match=r"labels.csv: no column image in its first line"):
        read_heads(tmp_path)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_picture_that_is_cut_short_is_none_and_nobody_else_says_so(tmp_path: Path, ending: str, capfd):
    coded = cv2.imencode(ending, np.random.default_rng(0).integers(0, 255, (48, 48)).astype(np.uint8))[1].tobytes()
    path = tmp_path / f"1{ending}"
    path.write_bytes(coded)
    assert read_picture(path).shape == (48, 48)
    path.write_bytes(coded[:-300])
    with pytest.raises(InputError, match=rf"1{ending}: not a picture that can be read"):
        read_picture(path)
    assert capfd.readouterr().err == ""
