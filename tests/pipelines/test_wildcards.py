"""Choices in prompts: drawn from the seed, complete, and never left in silence."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from dynamicprompts.generators import RandomPromptGenerator
from dynamicprompts.wildcards import WildcardManager
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import BadRequest
from composer.request import AdapterUse, Region, RenderRequest
from pipelines.wildcards import drawn, expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clothes").mkdir()
    (tmp_path / "clothes" / "hat.txt").write_text("red hat\nblue {silk|felt} hat\n")
    return tmp_path


def test_every_choice_comes_and_a_seed_repeats_its_own() -> None:
    found = [expand("a {cat|dog|owl} (here:1.2) [x|y] <lora:z:0.5>", seed, None) for seed in range(40)]
    assert set(found) == {f"a {one} (here:1.2) [x|y] <lora:z:0.5>" for one in ("cat", "dog", "owl")}
    assert found == [expand("a {cat|dog|owl} (here:1.2) [x|y] <lora:z:0.5>", seed, None) for seed in range(40)]


def test_wildcards_are_read_from_a_folder(folder: Path) -> None:
    found = {expand("__clothes/hat__", seed, folder) for seed in range(40)}
    assert found == {"red hat", "blue silk hat", "blue felt hat"}


@pytest.mark.parametrize("prompt", ["plain, text", "# no choices", "a_b __ c", "\\(x\\)", ""])
def test_a_prompt_without_choices_stays_as_it_is(prompt: str) -> None:
    assert expand(prompt, 0, None) == prompt


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("__clothes/hut__", "'clothes/hat'"),
        ("a {b", "character 3"),
        ("{" * 150 + "a|b" + "}" * 150, "nested more than 20 deep"),
        ("{a|b}" * 2000, "the prompt: 2,000 choices; at most 200 are drawn"),
        ("{a|b}" * 150 + "__clothes/hat__" * 51, "the prompt: 201 choices; at most 200 are drawn"),
        ("{9::a|b}" * 3000, "24,000 characters; with choices, at most 20,000 are read"),
        ("{a|\ufdd0}", "keeps out of texts"),
        ("${x} {a|b}", "cannot be made"),
    ],
)
def test_what_cannot_be_read_is_an_error(prompt: str, told: str, folder: Path) -> None:
    with pytest.raises(BadRequest) as raised:
        expand(prompt, 0, folder)
    assert told in str(raised.value)


def test_as_many_choices_as_may_be_are_drawn() -> None:
    assert set(expand("{a|b}" * 200, 0, None)) == {"a", "b"}


def test_the_choices_of_all_prompts_of_a_request_count_together() -> None:
    placed = AdapterUse(name="zorp", region=Region(box=(0, 0, 1, 1), prompt="{a|b}" * 100))
    request = RenderRequest(prompt="{a|b}" * 50, negative_prompt="{a|b}" * 50, adapters=(placed,))
    assert drawn(request, None, lambda _: False).choices == "text"
    more = request.model_copy(update={"undesired": "{a|b}"})
    with pytest.raises(BadRequest, match="the request's prompts together: 201 choices; at most 200 are drawn"):
        drawn(more, None, lambda _: False)
    for as_text in ({"choices": "text"}, {"prompt_syntax": "plain"}):
        assert drawn(more.model_copy(update=as_text), None, lambda _: False).prompt == more.prompt


def test_a_wildcard_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="--wildcards"):
        expand("__hat__", 0, None)
    with pytest.raises(BadRequest, match="no such folder"):
        expand("__hat__", 0, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("100% cotton {a|a}", "100% cotton a"),
        ("{a|a} for $5, 50%{|} off", "a for $5, 50% off"),
        ("#1 c# {a|a} # no comment", "#1 c# a # no comment"),
        ("a __b {c|c} __ d", "a __b c __ d"),
        ("http://a.b/c {d|d} /* e */", "http://a.b/c d /* e */"),
        ("costs $$ {a|a}", "costs $$ a"),
        ("{2$$ and $$a|a}", "a and a"),
        ("${c=red} ${c} %{<...>$${a|a}}", "red <a>"),
    ],
)
def test_signs_that_begin_nothing_are_text(prompt: str, found: str) -> None:
    assert expand(prompt, 3, None).replace("  ", " ").strip() == found


def test_a_name_of_a_lora_is_left_alone(folder: Path) -> None:
    def known(name: str) -> bool:
        return name in ("my__ink__style", "a{b|c}")

    tags = "<lora:my__ink__style:0.5> <lora:a{b|c}>"
    assert expand(tags, 0, None, known) == tags
    found = {expand(f"{{x|y}} {tags} __clothes/hat__", seed, folder, known) for seed in range(40)}
    hats = ("red hat", "blue silk hat", "blue felt hat")
    assert found == {f"{one} {tags} {hat}" for one in "xy" for hat in hats}
    (folder / "tag.txt").write_text("<lora:my__ink__style:{0.5|0.5}>\n")
    assert expand("__tag__", 0, folder, known) == "<lora:my__ink__style:0.5>"
    with pytest.raises(BadRequest, match="__ink__"):
        expand("<lora:my__ink__style:0.5>", 0, None, lambda name: False)


def test_wildcards_that_name_themselves_end(folder: Path) -> None:
    (folder / "one.txt").write_text("__two__\n")
    (folder / "two.txt").write_text("__one__\n")
    (folder / "tree.txt").write_text("{__tree__ __tree__|leaf} {__tree__ __tree__|leaf}\n")
    (folder / "luck.txt").write_text("again __luck__\nend\n")
    with pytest.raises(BadRequest, match="name themselves, or each other"):
        expand("__one__", 0, folder)
    with pytest.raises(BadRequest, match="name themselves|more than 1,000 wildcards"):
        expand("__tree__ __tree__ __tree__ __tree__ __tree__ __tree__ __tree__ __tree__ __tree__", 0, folder)
    assert expand("__luck__", 0, folder).endswith("end")


def test_only_the_files_of_the_folder_are_read_and_only_those_asked_for(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path.parent / f"{tmp_path.name} secret.txt"
    secret.write_text("secret\n")
    (folder / "link.txt").symlink_to(secret)
    os.mkfifo(folder / "pipe.txt")
    (folder / "endless.txt").symlink_to("/dev/zero")
    (folder / "loop").symlink_to(folder)
    (folder / "huge.txt").touch()
    os.truncate(folder / "huge.txt", 1 << 40)
    (folder / "latin.txt").write_bytes(b"caf\xe9\n")
    assert expand("__clothes/*__", 0, folder) in ("red hat", "blue silk hat", "blue felt hat")
    wrong = {
        "link": "leads out of its folder",
        "pipe": "a pipe, not a regular file",
        "endless": "leads out of its folder",
        "huge": "more than 16,777,216 bytes",
        "latin": "not text in UTF-8",
    }
    for name, told in wrong.items():
        with pytest.raises(BadRequest, match=told):
            expand(f"__{name}__", 0, folder)
    with pytest.raises(BadRequest, match="not a regular file|leads out|more than|UTF-8"):
        expand("__*__", 0, folder)


_PIECES = st.sampled_from(
    [
        *"ab{}|#$%_,()[]<>:!~@/\\\n ",
        "{",
        "}",
        "|",
        "$$",
        "__",
        "${",
        "%{",
        "2$$",
        "0.5::",
        "__a__",
        "__x/b__",
        "...",
        "é",
        "\0",
    ]
)


@pytest.mark.thorough
@settings(deadline=None, max_examples=300)
@given(st.lists(_PIECES, max_size=30).map("".join), st.integers(0, 9))
def test_any_text_is_drawn_as_dynamicprompts_does_or_refused(text: str, seed: int) -> None:
    values = {"a": ["red", "green {dark|light}"], "x/b": ["one", "two __a__"]}
    with TemporaryDirectory() as place:
        for name, lines in values.items():
            path = Path(place, f"{name}.txt")
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(lines))
        try:
            found = expand(text, seed, Path(place))
        except BadRequest:
            found = None
        try:
            theirs = str(RandomPromptGenerator(WildcardManager(Path(place)), seed=seed).generate(text, 1)[0])
        except Exception:  # noqa: BLE001  it raises anything; here it is a BadRequest, or signs that are text
            return
    if "{" in text and found is not None and not re.search(r"#|//|/\*|[%$]\{", text):
        assert found == theirs
