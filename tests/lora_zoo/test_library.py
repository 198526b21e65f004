"""Asking for LoRAs: by name, path below a folder, alias, hash and file; and names that mean several things."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_zoo.catalog import Catalog, entry_for
from lora_zoo.errors import BadFile, UnknownName, ZooError
from lora_zoo.library import AmbiguousName, Library
from tests.lora_zoo.index.folders import lora


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of LoRAs beside a catalogue of one; some names are there twice."""
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    embedded = Catalog(tmp_path, (entry_for(lora(tmp_path / "shipped" / "zorp.safetensors", 100)),))
    monkeypatch.setattr(Catalog, "load", lambda *_: embedded)
    folder = tmp_path / "loras"
    lora(folder / "alice.safetensors", 1, {"ss_output_name": "alice_v3"})
    lora(folder / "old" / "bob.safetensors", 2)
    lora(folder / "new" / "bob.safetensors", 3)
    lora(folder / "copies" / "alice.safetensors", 1, {"ss_output_name": "alice_v3"})
    lora(folder / "zorp.safetensors", 4)
    lora(folder / "x1.safetensors", 5, {"ss_output_name": "last"})
    lora(folder / "x2.safetensors", 6, {"ss_output_name": "last"})
    (folder / "broken.safetensors").write_bytes(b"nothing")
    return folder


@pytest.fixture
def library(root: Path) -> Library:
    return Library.scanned([root])[0]


def test_names_aliases_hashes_and_files_resolve(root: Path, library: Library) -> None:
    alice = entry_for(root / "alice.safetensors")
    digests = (alice.sha256[:10], alice.sha256[:8].upper(), alice.sha256)
    for asked in ("alice", "alice_v3", *digests, str(root / "alice.safetensors")):
        assert library.find(asked).sha256 == alice.sha256
    assert library.handle(library.find("alice")) == "alice"


def test_autov3_resolves_for_both(library: Library, root: Path, tmp_path: Path) -> None:
    from lora_zoo.hashes import autov3

    for path in (root / "alice.safetensors", tmp_path / "shipped" / "zorp.safetensors"):
        assert library.find(autov3(path) or "").sha256 == entry_for(path).sha256


@pytest.mark.parametrize(("asked", "names"), [("bob", ["new/bob", "old/bob"]), ("zorp", None), ("last", ["x1", "x2"])])
def test_a_name_of_several_contents_is_an_error_that_lists_them(
    asked: str, names: list[str] | None, library: Library, root: Path
) -> None:
    with pytest.raises(AmbiguousName) as raised:
        library.find(asked)
    said = str(raised.value)
    assert said.startswith("2 different LoRAs") and str(root.parent) not in said
    listed = said.partition(" as ")[2].split(", ")
    assert names is None or listed == names
    contents = {library.find(one).sha256 for one in listed}
    assert len(contents) == 2


def test_a_name_of_its_own_goes_before_what_another_file_calls_itself(root: Path) -> None:
    zorp = Library.scanned([root.parent / "shipped"])[0].find("zorp")
    folder = root.parent / "sent"
    lora(folder / "copy of zorp.safetensors", 20, {"ss_output_name": "zorp"})
    lora(folder / "copy of alice.safetensors", 21, {"ss_output_name": "alice"})
    lora(folder / "alice.safetensors", 22)
    library = Library.scanned([folder])[0]
    assert library.find("zorp") == zorp or library.find("zorp").sha256 == zorp.sha256
    assert library.find("alice").sha256 == entry_for(folder / "alice.safetensors").sha256
    handles = [library.handle(entry) for entry in library.entries()]
    assert handles == ["zorp", "alice", "copy of alice", "copy of zorp"]


def test_handles_name_one_content_each_and_no_path_of_the_machine(root: Path, library: Library) -> None:
    found = {entry.file: library.handle(entry) for entry in library.entries()}
    assert all(str(root) not in handle for handle in found.values())
    for entry in library.entries():
        assert library.find(found[entry.file]).sha256 == entry.sha256
    assert found[str(root / "old" / "bob.safetensors")] == "old/bob"
    zorp = entry_for(root / "zorp.safetensors").sha256
    assert found[str(root / "zorp.safetensors")] == zorp[:10]


def test_all_handles_take_one_connection(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        lora(root / "many" / f"{number}.safetensors", 100 + number)
    library = Library.scanned([root])[0]
    opened: list[object] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: opened.append(args) or connect(*args, **options))
    handles = [library.handle(entry) for entry in library.entries()]
    assert len(handles) == 1 + 7 + 60
    assert len(opened) == 2  # for the names, and for what else is known of them
    assert [library.handle(entry) for entry in library.entries()] == handles
    assert len(opened) == 2


def test_a_file_that_is_written_anew_is_read_anew(root: Path, library: Library) -> None:
    before = library.find("alice_v3").sha256
    assert library.find("x1").sha256 == entry_for(root / "x1.safetensors").sha256
    lora(root / "x1.safetensors", 50)
    assert library.find("x1").sha256 == entry_for(root / "x1.safetensors").sha256
    lora(root / "alice.safetensors", 51)
    assert library.find("alice").sha256 == entry_for(root / "alice.safetensors").sha256 != before
    (root / "x1.safetensors").write_bytes(b"half a file")
    with pytest.raises(BadFile, match="'x1' cannot be used: x1.safetensors: .*not a safetensors file"):
        library.find("x1")
    (root / "x1.safetensors").unlink()
    with pytest.raises(BadFile, match="'x1': its file is not there any more"):
        library.find("x1")


def test_names_that_are_no_names_of_paths_are_names(root: Path) -> None:
    folder = root.parent / "odd"
    for number, name in enumerate((".", "..", "a\\b", "c\\c", " ")):
        lora(folder / f"{name}.safetensors", 200 + number)
    library = Library.scanned([folder])[0]
    for entry in library.entries():
        assert library.find(library.handle(entry)).sha256 == entry.sha256


def test_an_unknown_name_is_told_with_three_near_ones(root: Path) -> None:
    for number in range(50):
        lora(root / "many" / f"castle_{number}.safetensors", 100 + number)
    library = Library.scanned([root])[0]
    with pytest.raises(UnknownName) as raised:
        library.find("castle_")
    assert str(raised.value).count("castle_") == 1 + 3
    with pytest.raises(UnknownName, match="none of the 5[0-9] that are known has a name like it"):
        library.find("completely different")


def test_a_path_below_the_folder_tells_namesakes_apart(root: Path, library: Library) -> None:
    old = entry_for(root / "old" / "bob.safetensors")
    assert library.find("old/bob").sha256 == old.sha256
    assert library.find("old\\bob").sha256 == old.sha256
    assert library.find(library.handle(old)).sha256 == old.sha256


def test_what_cannot_be_found_is_told_with_the_nearest(library: Library) -> None:
    with pytest.raises(UnknownName, match="'alice'"):
        library.find("alcie")
    with pytest.raises(BadFile, match="broken.safetensors: .*not a safetensors file"):
        library.find("broken")
    with pytest.raises(UnknownName):
        library.find("deadbeefdeadbeef")


def test_without_folders_the_library_is_the_catalogue(root: Path) -> None:
    library, reports = Library.scanned([])
    assert (reports, library.rows(), [entry.name for entry in library.entries()]) == ((), [], ["zorp"])


def test_a_letter_written_as_one_sign_or_two_is_the_same(root: Path) -> None:
    one, two = "caf\u00e9", "cafe\u0301"
    lora(root / f"{two}.safetensors", 7, {"ss_output_name": "nai\u0308ve"})
    library = Library.scanned([root])[0]
    for asked in (one, two, "na\u00efve"):
        assert library.find(asked).file.endswith(f"{two}.safetensors")
    lora(root / f"{one}.safetensors", 8)
    library = Library.scanned([root])[0]
    if len([row for row in library.rows() if row.name == one]) == 2:  # a disk may take both for one file
        with pytest.raises(AmbiguousName):
            library.find(one)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=40).filter(
    lambda name: len(name.encode()) < 230
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=20, max_size=40, unique=True))
def test_any_name_a_file_can_have_is_found_or_told(names: list[str], root: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=root.parent))
    paths = [lora(folder / f"{name}.safetensors", number) for number, name in enumerate(names)]
    library, (report,) = Library.scanned([folder])
    assert (report.files, report.refused) == (len(set(paths)), 0)
    for entry in library.entries():
        assert library.find(library.handle(entry)).sha256 == entry.sha256
        try:
            assert library.find(entry.name).sha256 in {one.sha256 for one in library.entries()}
        except ZooError as error:
            assert isinstance(error, AmbiguousName | UnknownName)


def test_civitais_number_is_found_beside_any_copy(root: Path) -> None:
    (root / "copies" / "alice.civitai.info").write_text('{"id": 42}')
    library, _ = Library.scanned([root])
    assert [library.civitai_version(library.find(name)) for name in ("alice", "x1")] == [42, None]
