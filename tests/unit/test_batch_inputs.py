"""Claims about what a batch takes for its recordings, what it calls them, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from casa.batch.inputs import clean, find
from casa.batch.scratch import scratch
from casa.batch.store import LocalStore, RemoteStore, open_store
from casa.errors import CasaError, InputError


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def test_a_folder_gives_its_videos_and_those_below_in_order(tmp_path: Path):
    files(tmp_path, "b.mp4", "a.AVI", "day/c.mkv", "notes.txt", ".hidden/d.mp4", "run.h5", "a.csv")
    found = find([str(tmp_path)])
    assert [item.recording for item in found] == ["a", "b", "c"]
    assert all(item.n_bytes and item.stamp for item in found)


def test_a_folder_of_pictures_is_a_recording(tmp_path: Path):
    field = files(tmp_path, "field/0.png", "field/1.png", "field/notes.txt") / "field"
    (before,) = find([str(field)])
    assert (before.recording, before.n_bytes) == ("field", 2 * len("content of field/0.png"))
    (field / "notes.txt").write_text("not a picture")
    assert find([str(field)]) == [before]
    (field / "1.png").write_text("content of FIELD/1.png")
    os.utime(field / "1.png", ns=(0, 0))
    changed = find([str(field)])[0].stamp
    (field / "1.png").rename(field / "2.png")
    assert len({before.stamp, changed, find([str(field)])[0].stamp}) == 3


def test_a_copy_of_a_folder_of_pictures_is_told_whatever_its_pictures_are_called(tmp_path: Path):
    for name, data in {"a/2.png": "2", "a/10.png": "10", "b/02.png": "2", "b/10.png": "10",
                       "c/2.png": "10", "c/10.png": "2"}.items():  # c: the same pictures in another order  # fmt: skip
        files(tmp_path, name)
        (tmp_path / name).write_text(data.rjust(200_000))
    folders = [str(tmp_path / name) for name in "abc"]
    with pytest.raises(InputError, match=r"b: is a copy of .*a;"):
        find(folders)
    assert [item.recording for item in find(folders, skip_duplicates=True)] == ["a", "c"]


def test_an_archive_of_folders_of_pictures_is_taken_and_pictures_beside_videos_are_told_of(tmp_path: Path):
    files(tmp_path, "day/a/0.png", "day/a/1.png", "day/b/0.png", "day/b/1.png", "day/notes.txt")
    said: list[str] = []
    assert [item.recording for item in find([str(tmp_path)], said=said.append)] == ["a", "b"]
    assert said == []
    files(tmp_path, "day/b/thumbnails/0.png")
    assert [item.recording for item in find([f"{tmp_path}/day/b"], said=said.append)] == ["b"]
    assert "day/b/thumbnails are left out" in said.pop()
    files(tmp_path, "day/c.mp4")
    assert [item.recording for item in find([str(tmp_path)], said=said.append)] == ["c"]
    assert len(said) == 1
    assert "day/a and 2 more are left out" in said[0]
    with pytest.raises(InputError, match=r"0\.png: is one picture; give .*day/a"):
        find([f"{tmp_path}/day/*/*.png"])


def test_globs_addresses_and_simulated_ones(tmp_path: Path):
    files(tmp_path, "x/a.mp4", "x/b.mp4", "y/c.mp4")
    assert [i.recording for i in find([f"{tmp_path}/*/*.mp4"])] == ["a", "b", "c"]
    assert [i.uri for i in find([f"file://{tmp_path}/y/c.mp4"])] == [str(tmp_path / "y/c.mp4")]
    assert [i.recording for i in find(["simulator:default:3"])] == ["simulator_default_3"]
    remote = find([f"local://{tmp_path}/x"])
    assert [(i.recording, i.n_bytes) for i in remote] == [("a", 18), ("b", 18)]
    assert remote[0].uri.startswith("local://")


def test_names_that_clash_take_as_much_of_the_path_as_tells_them_apart(tmp_path: Path):
    files(tmp_path, "one/field.mp4", "two/field.mp4", "two/field.avi", "two/other.mp4")
    names = {os.path.relpath(i.uri, tmp_path): i.recording for i in find([str(tmp_path)])}
    assert len(set(names.values())) == 4
    assert names["two/other.mp4"] == "other"
    assert names["one/field.mp4"] == "one_field"


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux alone")
def test_a_name_that_no_table_can_have_is_told(tmp_path: Path):
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    with pytest.raises(InputError, match=r"caf\\udce9\.mp4: the name is not UTF-8") as told:
        find([str(tmp_path)])
    assert str(told.value).isascii()


def test_a_name_is_one_that_readers_of_data_sets_do_not_pass_over():
    assert clean("_a b/c") == "a_b_c"
    assert clean("..") == "recording"


def test_a_manifest_says_more_of_each_recording(tmp_path: Path):
    files(tmp_path, "a.mp4", "b.mp4", "scale.toml")
    table = tmp_path / "m.csv"
    table.write_text("path,recording,calibration,fps,sample\na.mp4,first,scale.toml,50,S 1\nb.mp4,,,,\n")
    first, second = find([str(table)])
    assert (first.recording, first.fps_hz, first.columns) == ("first", 50.0, {"sample": "S 1"})
    assert first.calibration == str(tmp_path / "scale.toml")
    assert (second.recording, second.fps_hz, second.calibration) == ("b", None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\na.mp4\n", "column path"),
        ("path,fps\na.mp4,fast\n", ":2: fps"),
        ("path,fps\na.mp4\n", ":2: has more or fewer cells"),
        ("path\na.mp4\ngone.mp4\n", ":3: "),
        ("path,\n\na.mp4,\n,\n\ngone.mp4,\n", ":6: "),
        ("path;fps\na.mp4;50\n", "parted by commas"),
        ("path,sample,sample\na.mp4,A,B\n", "two columns sample"),
        ("path\na.mp4\na.mp4\n", "given twice"),
        ("path,recording\na.mp4,x/y\n", "letters, digits"),
        ("path,recording\na.mp4,x\nb.mp4,x\n", "given twice"),
        ("path\n.\n", "several recordings"),
    ],
)
def test_a_manifest_that_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, words: str):
    files(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        find([str(tmp_path / "m.csv")])


@pytest.mark.parametrize(
    ("given", "words"),
    [("gone.mp4", "no such file"), ("*.mov", "matches no file"), (".", "no video"), ("nowhere://x", "nowhere")],
)
def test_what_is_not_there_is_told(tmp_path: Path, given: str, words: str):
    files(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=words):
        find([given if "://" in given else str(tmp_path / given)])


def test_a_copy_is_refused_or_left_out_and_one_of_equal_size_is_neither(tmp_path: Path):
    for name, data in (("a.mp4", b"x" * 200_000), ("b.mp4", b"x" * 200_000)):
        (tmp_path / name).write_bytes(data)
    middle = bytearray(b"x" * 200_000)
    middle[100_000] = 0  # differs where neither the first nor the last bytes are
    (tmp_path / "c.mp4").write_bytes(middle)
    with pytest.raises(InputError, match=r"b\.mp4: is a copy of .*a\.mp4"):
        find([str(tmp_path)])
    said: list[str] = []
    assert [i.recording for i in find([str(tmp_path), str(tmp_path / "c.mp4")], True, said.append)] == ["a", "c"]
    assert len(said) == 2


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_store_has_whole_files_or_none(tmp_path: Path, kind: str):
    store = open_store(str(tmp_path / "out") if kind == "folder" else f"memory://{tmp_path.name}", create=True)
    assert isinstance(store, LocalStore if kind == "folder" else RemoteStore)
    source = tmp_path / "source"
    source.write_bytes(b"first")
    assert store.put(source, "a/b.bin") == 5
    source.write_bytes(b"second one")
    assert store.put(source, "a/b.bin") == 10
    assert store.read("a/b.bin") == b"second one"
    assert store.sizes("a") == {"b.bin": 10}
    assert store.claim("marks/x.json", b"mine")
    assert not store.claim("marks/x.json", b"yours")
    assert store.read("marks/x.json") == b"mine"
    store.write("marks/x.json", b"ours")
    assert store.read("marks/x.json") == b"ours"
    assert store.read_all("marks", ".json") == {"x.json": b"ours"}
    store.remove("marks/x.json")
    store.remove("marks/x.json")
    assert store.read("marks/x.json") is None
    assert store.sizes("nowhere") == {}
    assert store.exists()


def test_a_store_that_vanishes_is_not_made_again(tmp_path: Path):
    store = open_store(str(tmp_path / "out"), create=True)
    (tmp_path / "out").rmdir()
    assert not store.exists()
    with pytest.raises(CasaError, match="vanished"):
        store.write("a", b"x")
    assert not (tmp_path / "out").exists()


def test_one_batch_at_a_time_writes_into_a_folder(tmp_path: Path):
    store = open_store(str(tmp_path / "out"), create=True)
    with store.held(), pytest.raises(InputError, match="another batch"), open_store(store.root).held():
        pass
    with store.held():
        pass


def test_what_a_killed_process_left_is_removed_and_what_is_held_is_not(tmp_path: Path):
    with scratch("t-", tmp_path) as held:
        code = "import os, sys, pathlib; from casa.batch.scratch import scratch;"
        code += "kept = scratch('t-', pathlib.Path(sys.argv[1])); kept.__enter__(); os._exit(9)"  # as if killed
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 2
        with scratch("t-", tmp_path) as other:
            assert sorted(p for p in tmp_path.iterdir() if p.is_dir()) == sorted([held, other])
    assert list(tmp_path.iterdir()) == []
