"""The digest of the code that makes pictures."""

from __future__ import annotations

from pathlib import Path

from pipelines.revision import revision


def test_any_change_of_the_code_is_another_revision(tmp_path: Path) -> None:
    def of(name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return revision(tmp_path / name)

    first = {"composer/methods/merge.py": "a = 1", "pipelines/batch.py": "b", "eval/cli.py": "c"}
    one = of("first", first)
    assert one == of("same", first) == of("elsewhere", {**first, "eval/cli.py": "d", "README.md": "e"})
    others = [
        of("edited", {**first, "composer/methods/merge.py": "a = 2"}),
        of("renamed", {"composer/methods/sum.py": "a = 1", "pipelines/batch.py": "b"}),
        of("added", {**first, "lora_zoo/new.py": ""}),
    ]
    assert len({one, *others}) == 4
    assert all(len(found) == 12 and int(found, 16) for found in others)
