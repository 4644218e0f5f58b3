"""What `make doctor` finds missing."""

from pathlib import Path

from cli.doctor import unwritable


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert unwritable(file / "store").startswith(f"{file} cannot be written: ")


def test_looking_leaves_nothing(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "new" / "store") == ""
    assert list(tmp_path.iterdir()) == []
