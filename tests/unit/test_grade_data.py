"""Folders of clips with votes: what is read from them, what is refused, and how well experts agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from casa.cells import Clip
from casa.cli.grade import app
from casa.cli.main import app as casa
from casa.clips import write_clips
from casa.errors import CasaError, InputError
from casa.evaluate.agreement import fleiss_kappa, kappa_interval
from casa.grade.agreement import agreement_of
from casa.grade.annotate import Annotation
from casa.grade.data import picture_file, read_dataset, read_pictures, simulated_dataset, write_panel
from casa.grade.votes import NO_VOTE, Votes, expert_agreement, read_votes


def made_clips(n: int, size: int = 150) -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(
            clip_id=k + 1, track_id=k + 1, frames=np.arange(16), t_ns=np.arange(16) * 66_666_667,
            images=rng.integers(0, 255, (16, size, size), dtype=np.uint8), centre_xy_px=np.full((16, 2), 75.0),
            score=np.ones(16, np.float32), flags=np.zeros(16, np.int64), um_per_px=0.4,
        )
        for k in range(n)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three clips as casa cuts them, with 4 votes each."""
    folder = tmp_path / "votes" / "clinic"  # a folder's own place is no part of its layout
    write_clips(folder, made_clips(3))
    (folder / "votes.csv").write_text("clip,A,B,C,D,E\n000003,0,0,0,1,3\n1,3,1,0,0,0\n2,0,2,2,0,0\n")
    return folder


def test_clips_and_counts_become_arrays(folder):
    (folder / "about.csv").write_text("clip,group,age,note\n1,smith,31,x\n2,jones,,y\n3,smith,31,z\n")
    dataset = read_dataset(folder)
    assert dataset.images.shape == (3, 16, 150, 150)
    assert np.array_equal(dataset.images[1], made_clips(3)[1].images)
    assert dataset.distribution.tolist() == [[0.75, 0.25, 0, 0, 0], [0, 0.5, 0.5, 0, 0], [0, 0, 0, 0.25, 0.75]]
    assert dataset.counts.sum(axis=1).tolist() == [4, 4, 4]
    assert dataset.majority.tolist() == [0, 1, 4]
    assert dataset.groups[0] == dataset.groups[2] != dataset.groups[1]
    assert list(dataset.covariates) == ["age"]
    assert np.isnan(dataset.covariates["age"][1])
    assert dataset.um_per_px.tolist() == [0.4] * 3
    assert not dataset.simulated
    assert dataset.fresh_panel_mse() is None
    part = dataset.select(np.array([2]))
    assert (part.ids.tolist(), part.counts.tolist()) == ([3], [[0, 0, 0, 1, 3]])


def test_without_groups_every_clip_is_its_own(folder):
    assert len(set(read_dataset(folder).groups.tolist())) == 3


def test_the_kept_copy_follows_the_clips(folder):
    first = read_pictures(folder)[1]
    again = read_pictures(folder)[1]
    assert isinstance(again, np.memmap)
    assert np.array_equal(first, again)
    write_clips(folder, [*made_clips(2), made_clips(4)[3]], force=True)
    ids, changed, _ = read_pictures(folder)
    assert ids.tolist() == [1, 2, 4]
    assert not list(folder.glob(".*partial"))
    assert np.array_equal(changed[2], made_clips(4)[3].images)


def test_pictures_lie_in_a_file_that_another_process_can_map(folder, tmp_path):
    ids, path = picture_file(folder, tmp_path / "spare.npy")
    assert ids == [1, 2, 3]
    assert np.array_equal(np.load(path, mmap_mode="r")[2], made_clips(3)[2].images)


def test_votes_of_single_experts_are_counted(folder):
    (folder / "votes.csv").write_text("clip,expert,grade\n1,ann,A\n1,bob,b\n2,ann,C\n3,ann,E\n")
    (folder / "votes").mkdir()
    (folder / "votes" / "cyd.csv").write_text("clip,grade,given_at\n2,C,\n")
    votes = read_votes(folder, np.array([1, 2, 3]))
    assert votes.experts == ("ann", "bob", "cyd")
    assert votes.grades.tolist() == [[0, 1, NO_VOTE], [2, NO_VOTE, 2], [4, NO_VOTE, NO_VOTE]]
    assert votes.counts.tolist() == [[1, 1, 0, 0, 0], [0, 0, 2, 0, 0], [0, 0, 0, 0, 1]]


COUNTS = "clip,A,B,C,D,E\n1,3,1,0,0,0\n2,0,2,2,0,0\n"
SINGLE = "clip,expert,grade\n1,ann,A\n2,ann,B\n3,ann,C\n"


@pytest.mark.parametrize(
    ("votes", "says"),
    [
        (COUNTS, "clip 3 has no votes"),
        (COUNTS + "3,0,0,0,0,0\n", "clip 3 has no votes"),
        (COUNTS + "3,1,1,1,1,0\n4,1,1,1,1,0\n", "votes.csv:5: clip '4' is not in the folder"),
        (COUNTS + "3,1,-1,4,0,0\n", "votes.csv:4: count of B is '-1'"),
        (COUNTS + "3,0.25,0.75,0,0,0\n", "count of A is '0.25'; expected the number of experts"),
        (COUNTS + "3,nan,0,0,0,1\n", "count of A is 'nan'"),
        (COUNTS + "3,1,1,1,1,0\n2,4,0,0,0,0\n", "votes.csv:5: clip '2' has two rows of counts"),
        (COUNTS + "3,1,1,1,1\n", "votes.csv:4: expected 6 cells, got 5"),
        ("clip,A,B,C,D\n", "column E is missing"),
        ("clip,A,B,C,D,E,total\n1,1,1,1,1,0,5\n", "votes.csv:2: the votes sum to 4, the total says 5"),
        (SINGLE + "9,bob,A\n", "votes.csv:5: clip '9' is not in the folder"),
        (SINGLE + "1,bob,F\n", "votes.csv:5: grade 'F'; expected one of A, B, C, D, E"),
        (SINGLE + "1,ann,B\n", "votes.csv:5: clip '1' has two votes of expert 'ann'"),
        (SINGLE + "1,,B\n", "votes.csv:5: the expert's name is empty"),
        ("", "column clip, A, B, C, D, E is missing"),
        ("clip;A;B;C;D;E\n1;3;1;0;0;0\n", "the header is 'clip;A;B;C;D;E'; save it with commas between cells"),
        ("clip,A,B,C,D,E\n", "its tables of votes hold none"),
    ],
)
def test_bad_votes_are_told_in_a_line(folder, votes, says):
    (folder / "votes.csv").write_text(votes)
    with pytest.raises(InputError) as error:
        read_dataset(folder)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_the_number_of_experts_can_be_demanded(folder):
    assert len(read_dataset(folder, n_experts=4)) == 3
    with pytest.raises(InputError, match="clip 1 has votes that sum to 4, expected 40 experts"):
        read_dataset(folder, n_experts=40)


def test_counts_and_single_votes_do_not_mix(folder):
    (folder / "votes").mkdir()
    (folder / "votes" / "cyd.csv").write_text("clip,grade\n2,C\n")
    with pytest.raises(InputError, match=r"counts in votes.csv and single votes in votes/"):
        read_dataset(folder)


def test_a_folder_without_votes_says_how_to_get_them(folder):
    (folder / "votes.csv").unlink()
    with pytest.raises(InputError, match="casa grade annotate"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ("clip,group\n1,a\n2,b\n", "clip 3 has no row"),
        ("clip,group\n1,a\n2,b\n3,\n", "clip 3 has no group"),
        ("clip,group\n1,a\n2,b\n3,c\n3,c\n", "clip '3' is there twice"),
        ("clip,group\n1,a\n2,b\n3,c\n7,c\n", "clip '7' is not in the folder"),
    ],
)
def test_bad_tables_about_clips_are_told_in_a_line(folder, about, says):
    (folder / "about.csv").write_text(about)
    with pytest.raises(InputError, match=says):
        read_dataset(folder)


def test_clips_without_a_picture_are_refused(tmp_path):
    images = np.zeros((2, 16, 150, 150), np.uint8)
    images[0] = 5 + np.arange(150)
    np.save(tmp_path / "clips.npy", images)
    (tmp_path / "votes.csv").write_text("clip,A,B,C,D,E\n1,1,0,0,0,0\n2,1,0,0,0,0\n")
    with pytest.raises(InputError, match=r"clip 2.*one gray"):
        read_dataset(tmp_path)
    np.save(tmp_path / "clips.npy", images[:, :8])
    with pytest.raises(InputError, match=r"16, 150, 150"):
        read_dataset(tmp_path)


def test_a_simulated_panel_is_written_and_kept(tmp_path):
    here = simulated_dataset(4, seed=3)
    kept = simulated_dataset(4, seed=3, folder=tmp_path / "panel")
    assert here.simulated
    assert kept.simulated
    assert kept.name == "simulated panel, 4 clips, seed 3"
    assert np.array_equal(here.images, kept.images)
    assert np.array_equal(here.counts, kept.counts)
    assert np.allclose(here.covariates["quality_head"], kept.covariates["quality_head"])
    assert kept.fresh_panel_mse(5) == pytest.approx(here.fresh_panel_mse(5))
    drawn = (tmp_path / "panel" / "clips.npy").stat().st_mtime_ns
    simulated_dataset(4, seed=3, folder=tmp_path / "panel")
    assert (tmp_path / "panel" / "clips.npy").stat().st_mtime_ns == drawn
    assert "simulated = true" in (tmp_path / "panel" / "dataset.toml").read_text()


def test_simulated_clips_do_not_replace_real_ones(folder):
    with pytest.raises(InputError, match="not simulated"):
        simulated_dataset(2, 0, folder)


def test_a_card_says_clearly_whether_its_clips_are_simulated(folder):
    for said in ("true", "false"):
        (folder / "dataset.toml").write_text(f"simulated = {said}\n")
        assert read_dataset(folder).simulated is (said == "true")
        assert agreement_of(folder)["simulated"] is (said == "true")
        name = "clinic (simulated)" if said == "true" else "clinic"
        assert (read_dataset(folder).name, agreement_of(folder)["name"]) == (name, name)
    for said in ('"yes"', "1"):
        (folder / "dataset.toml").write_text(f"simulated = {said}\n")
        for ask in (read_dataset, agreement_of, lambda path: simulated_dataset(2, 0, path)):
            with pytest.raises(InputError, match=r"dataset.toml: simulated: expected true or false, got"):
                ask(folder)


def test_the_contact_sheet_of_simulated_clips_says_so(folder):
    sheets = []
    for said in ("true", "false"):
        (folder / "dataset.toml").write_text(f"simulated = {said}\n")
        assert CliRunner().invoke(casa, ["clips", str(folder)]).exit_code == 0
        sheets.append((folder / "sheet-01.png").read_bytes())
    assert sheets[0] != sheets[1]


# agreement

#: Fleiss' own layout: 10 subjects, 14 raters, 5 categories (the worked example of the textbooks; kappa = 0.210).
TEXTBOOK = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def test_kappa_of_the_textbook_example():
    assert fleiss_kappa(np.array(TEXTBOOK)) == pytest.approx(0.210, abs=5e-4)


def test_kappa_at_its_limits():
    assert fleiss_kappa(np.array([[4, 0, 0, 0, 0], [0, 4, 0, 0, 0]])) == 1.0
    assert np.isnan(fleiss_kappa(np.array([[4, 0, 0, 0, 0]] * 3)))  # one grade only: nothing to agree on
    assert np.isnan(fleiss_kappa(np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]])))  # single votes
    chance = np.random.default_rng(0).multinomial(40, [0.2] * 5, 3000)
    assert abs(fleiss_kappa(chance)) < 0.005
    low, high = kappa_interval(np.array(TEXTBOOK), 500)
    assert low < 0.21 < high


def test_an_expert_is_compared_with_the_others():
    grades = np.array([[0, 0, 1], [2, 2, 3], [3, 3, 4], [1, 1, NO_VOTE]])
    counts = np.stack([(grades == k).sum(1) for k in range(5)], 1)
    found = expert_agreement(Votes(counts, ("ann", "bob", "severe"), grades))
    assert found["severe"].clips == 3
    assert found["severe"].as_others == 0.0
    assert found["severe"].severity == 1.0
    assert found["ann"].as_others == 1.0  # where the other two tie, either grade is theirs
    assert found["ann"].severity == pytest.approx(-3 * 0.5 / 4)


def test_agreement_by_the_command_line(folder):
    found = CliRunner().invoke(app, ["agreement", str(folder), "--json"])
    result = json.loads(found.stdout)
    assert found.exit_code == 0
    assert result["clips"] == 3
    assert result["votes_per_clip"] == {"min": 4, "median": 4.0, "max": 4}
    assert result["kappa"]["fleiss"] == pytest.approx(fleiss_kappa(read_dataset(folder).counts))
    assert "Fleiss' kappa" in CliRunner().invoke(app, ["agreement", str(folder)]).stdout
    (folder / "votes.csv").write_text("clip,A,B,C,D,E\n")
    assert isinstance(CliRunner().invoke(app, ["agreement", str(folder)]).exception, InputError)


def test_panel_by_the_command_line(tmp_path):
    call = ["panel", "-o", str(tmp_path / "p"), "--clips", "2", "--seed", "1"]
    assert CliRunner().invoke(app, call).exit_code == 0
    assert len(read_dataset(tmp_path / "p", n_experts=40)) == 2
    again = CliRunner().invoke(app, call)
    assert isinstance(again.exception, InputError)
    assert CliRunner().invoke(app, [*call, "--force", "--no-votes"]).exit_code == 0
    with pytest.raises(InputError, match="has no votes"):
        read_dataset(tmp_path / "p")
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("x")
    assert isinstance(CliRunner().invoke(app, ["panel", "-o", str(other), "--force"]).exception, InputError)
    nowhere = CliRunner().invoke(app, ["panel", "-o", str(other / "precious.txt" / "p"), "--clips", "2"])
    assert isinstance(nowhere.exception, CasaError)
    assert "cannot be written (Not a directory)" in str(nowhere.exception)


# an expert's votes

IDS = np.arange(1, 31)


def test_every_vote_is_on_the_disk_at_once_and_found_again(tmp_path):
    first = Annotation(tmp_path, "Dr Ann", IDS)
    for grade in (0, 4, 2):
        first.vote(grade)
    text = (tmp_path / "votes" / "Dr Ann.csv").read_text().splitlines()
    assert text[0].startswith("clip,grade")
    assert [line.split(",")[1] for line in text[1:]] == ["A", "E", "C"]
    again = Annotation(tmp_path, "Dr Ann", IDS)
    assert again.done == 3
    assert again.row == first.row
    assert again.order == first.order


def test_the_order_is_each_experts_own_and_clips_added_later_do_not_change_it(tmp_path):
    ann, bob = (Annotation(tmp_path, name, IDS) for name in ("ann", "bob"))
    assert ann.order != bob.order != list(range(30))
    assert sorted(ann.order) == list(range(30))
    more = Annotation(tmp_path, "ann", np.arange(1, 41))
    assert [row for row in more.order if row < 30] == ann.order


def test_back_and_skip(tmp_path):
    a = Annotation(tmp_path, "ann", IDS[:4])
    assert not a.can_go_back
    first = a.row
    a.vote(1)
    second = a.row
    a.skip()
    a.back()
    assert a.row == second
    a.back()
    assert a.row == first
    a.vote(3)  # changes the vote
    assert a.votes == {first: 3}
    while a.row != second:  # what was skipped comes last
        assert a.row not in a.votes
        a.vote(2)
    assert a.done == 3
    a.vote(0)
    assert a.row is None
    a.vote(0)
    a.skip()
    assert a.done == 4
    a.back()
    assert a.row == second
    assert Annotation(tmp_path, "ann", IDS[:4]).row is None


def test_going_back_in_a_later_sitting(tmp_path):
    a = Annotation(tmp_path, "ann", IDS)
    a.vote(1)
    last = a.row
    a.vote(1)
    later = Annotation(tmp_path, "ann", IDS)
    assert later.can_go_back
    later.back()
    assert later.row == last


def test_a_vote_that_cannot_be_kept_is_no_vote(tmp_path):
    from casa.errors import CasaError

    a = Annotation(tmp_path, "ann", IDS)
    a.vote(1)
    row = a.row
    (tmp_path / "votes" / "ann.csv.partial").mkdir()  # nothing can be written there
    with pytest.raises(CasaError, match="could not be kept"):
        a.vote(2)
    assert (a.row, a.done) == (row, 1)
    assert "ann" in (tmp_path / "votes" / "ann.csv").name
    assert Annotation(tmp_path, "ann", IDS).done == 1


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "tail "])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(InputError, match="--expert"):
        Annotation(tmp_path, name, IDS)


def test_an_experts_file_that_is_wrong(tmp_path):
    (tmp_path / "votes").mkdir()
    (tmp_path / "votes" / "ann.csv").write_text("clip,grade\n99,A\n")
    with pytest.raises(InputError, match="'99' is not in the folder"):
        Annotation(tmp_path, "ann", IDS)


def test_single_votes_cannot_be_added_to_counts(tmp_path):
    write_panel(tmp_path / "p", 1, 0)
    with pytest.raises(InputError, match="holds counts"):
        Annotation(tmp_path / "p", "ann", np.array([1]))
