"""The judge over real HTTP: good, malformed, slow, rate-limited and refused answers, and injected words."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval import suites
from eval.columns import Column
from eval.judge import judging, protocols, study, verdicts
from eval.judge.endpoint import Endpoint, Settings
from eval.judge.errors import BadVotes, NoJudge, Unreadable
from eval.judge.ratings import Vote, rate, strengths
from eval.measuring import Measured, Row
from eval.running import Overrides, Run, Wish
from tests.eval.judge.server import saying, serving

pytest.importorskip("openai")
COLOURS = {"merge": "red", "switch": "blue"}


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    """Two cases, each with a red picture by merge and a blue one by switch."""
    suite = suites.load("duet")
    wish = Wish(suite="duet", mapped=None, sets=2, seeds=1, methods=tuple(COLOURS), overrides=Overrides(), clip=None)
    cases = suite.cases(2)
    run = Run(tmp_path, wish, suite, tuple(Column(name, name, {}) for name in COLOURS), cases)
    for name, colour in COLOURS.items():
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{name}.png")
    rows = tuple(Row(name, case, f"{name}.png", {}, {}) for case in cases for name in COLOURS)
    return Measured(run, rows, {}, ())


def endpoint(url: str, folder: Path, **changed: Any) -> Endpoint:
    return Endpoint(Settings(url, "a-model", **changed), folder, sleep=lambda _: None)


def colours(body: dict[str, Any]) -> list[str]:
    """Return which pictures a request shows, in order."""
    found: list[str] = []
    for part in body["messages"][0]["content"]:
        if part["type"] == "image_url":
            data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
            red = Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)
            found.append("red" if red else "blue")
    return found


def scores(body: dict[str, Any], first_bonus: float = 0.0) -> str:
    """Answer that blue composes better, by three points, and that what is first is better by a bonus."""
    text = body["messages"][0]["content"][0]["text"]
    heading = next(line for line in text.splitlines() if line.startswith("Scores ["))
    lines = [
        f"**Image {k}:** Composition Quality: {5 + 3 * (one == 'blue') + first_bonus * (k == 1)}/10, "
        "Image Quality: 6/10"
        for k, one in enumerate(colours(body), 1)
    ]
    return "\n".join((f"Said of the list: {text}", heading, *lines))


def judged(url: str, measured: Measured) -> tuple[judging.Judged, Endpoint]:
    asked = endpoint(url, measured.run.folder / "answers")
    some = judging.pairs(measured, "merge", ["merge", "switch"])
    court = judging.Court(asked, protocols.get("gpt4v"), measured)
    assert court.price(some).requests == (4 if not (measured.run.folder / "answers").exists() else 0)
    return court.judge(some, "a-model", lambda _: None), asked


def test_pairs_are_judged_in_both_orders_and_answers_kept(measured: Measured) -> None:
    with serving(lambda body: (200, scores(body, first_bonus=0.5))) as server:
        found, _ = judged(server.url, measured)
        assert len(server.requests) == 4
        assert sorted(colours(one)[0] for one in server.requests) == ["blue", "blue", "red", "red"]
        one = server.requests[0]
        assert (one["path"], one["key"], one["temperature"]) == ("/v1/chat/completions", "Bearer none", 1.0)
        again, asked = judged(server.url, measured)
        assert asked.asked == 0 and len(server.requests) == 4 and again == found
    assert found.dropped == 0 and len(found.verdicts) == 2
    composition, image = judging.lines(found)
    assert (composition.method, composition.mean, composition.mean_other) == ("switch", 8.25, 5.25)
    assert (composition.contest.win, image.contest.tie) == (1.0, 1.0)
    assert judging.position_bias(found) == {"composition": 0.5, "image": 0.0}
    verdicts.write(found, measured.run.folder)
    assert verdicts.read(measured.run.folder) == [found]
    assert "switch against merge" in verdicts.table(found).markdown()


def test_unreadable_answers_are_asked_anew_then_dropped(measured: Measured) -> None:
    answers = iter(["I like both.", "", "no scores"])
    with serving(lambda body: (200, next(answers, scores(body)))) as server:
        found, _ = judged(server.url, measured)
    assert found.dropped == 1 and len(found.verdicts) == 1
    assert len(server.requests) == 3 + 2  # one order alone is no verdict


def test_what_could_be_read_is_kept_and_what_could_not_is_asked_again(measured: Measured) -> None:
    """The first pair is judged, then the server falls silent: six answers end it. Later, only the rest is asked."""
    some = judging.pairs(measured, "merge", ["switch"])
    count = iter(range(99))
    with serving(lambda body: (200, scores(body) if next(count) not in range(2, 8) else "")) as server:
        court = judging.Court(endpoint(server.url, measured.run.folder / "answers"), protocols.get("gpt4v"), measured)
        more = [*some, replace(some[1], case="another")]
        with pytest.raises(NoJudge, match="6 answers in a row cannot be read by protocol gpt4v"):
            court.judge([more[0], more[1], more[2]], "a-model", lambda _: None)
        assert len(server.requests) == 8
        assert court.price(some).requests == 2
        found = court.judge(some, "a-model", lambda _: None)
        assert len(server.requests) == 10 and found.dropped == 0 and len(found.verdicts) == 2


@pytest.mark.parametrize("blanks", [" " * 5_000, "\n\t" * 5_000, " ,; " * 2_000])
def test_an_answer_of_blanks_is_read_at_once(blanks: str) -> None:
    """Patterns with blanks beside blanks would try every way to part them."""
    asked = suites.load("duet").sets[0]
    parts = [f"Image 1:{blanks}Integration:{blanks}7{blanks}Consistency:{blanks}7{blanks}Accuracy:{blanks}7{blanks}x"]
    with pytest.raises(Unreadable):
        protocols.get("cmlora").read("\n".join([protocols.heading(asked), *parts]), asked)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("page", ["<html>A page</html>", '{"choices": 3}', '{"choices": [', '{"choices": [{}]}', "[]"])
def test_a_server_that_speaks_otherwise_is_told(page: str, tmp_path: Path) -> None:
    for kind in ("application/json", "text/html"):
        with saying(page.encode(), kind) as url, pytest.raises(NoJudge, match="does not speak as OpenAI's do"):
            endpoint(url, tmp_path).ask("a question", [])


def test_models_of_like_names_have_files_of_their_own(measured: Measured) -> None:
    one = judging.Judged("gpt4v", "org/model", (), 1)
    places = {verdicts.write(replace(one, model=name), measured.run.folder) for name in ("org/model", "org_model")}
    assert len(places) == 2 and len(verdicts.read(measured.run.folder)) == 2
    assert len(verdicts.write(replace(one, model=500 * "x"), measured.run.folder).name) < 200


def test_rate_limits_and_slow_answers_are_waited_for(tmp_path: Path) -> None:
    states = iter([429, 503])
    with serving(lambda body: (next(states, 200), "an answer"), delay=1.0) as server:
        waits: list[float] = []
        settings = Settings(server.url, "a-model", timeout=0.5)
        found = Endpoint(settings, tmp_path, waits.append)
        assert found.ask("a question", []) == "an answer"
        assert found.asked >= 3 and waits == [2.0**n for n in range(found.asked - 1)]


def test_what_never_answers_is_an_error_and_nothing_is_kept(tmp_path: Path) -> None:
    with serving(lambda body: (429, "too many")) as server:
        with pytest.raises(NoJudge, match="did not answer in 3 tries"):
            endpoint(server.url, tmp_path, tries=3).ask("a question", [])
    with serving(lambda body: (401, "no such key")) as server:
        with pytest.raises(NoJudge, match="refuses: 401"):
            endpoint(server.url, tmp_path).ask("a question", [])
        assert len(server.requests) == 1
    assert not list(tmp_path.iterdir())


def test_a_study_is_blind_and_its_votes_are_rated(measured: Measured, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    page = study.export(judging.pairs(measured, "merge", ["switch"]), tmp_path, folder).read_text()
    assert "merge" not in page and "switch" not in page and page.count("data:image/png") == 4
    key = study.read_key(folder)
    lines = [f"{one.pair},{'left' if one.left == 'switch' else 'right'},me" for one in key]
    (tmp_path / "votes.csv").write_text("\n".join(["pair,choice,voter", *lines]))
    found = rate(study.votes(folder, [tmp_path / "votes.csv"]))
    assert [one.method for one in found] == ["switch", "merge"] and found[0].votes == 2
    for text, message in (
        ("pair,choice,voter\nxyz,left,me", "is not of the study"),
        (f"pair,choice,voter\n{key[0].pair},both,me", "unknown choice"),
        (f"pair,choice,voter\n{key[0].pair},left,me\n{key[0].pair},left,me", "twice"),
        ("pair,voter\n", "must begin with"),
        (f"pair,choice,voter\n{key[0].pair},left", "three cells"),
        ("pair,choice,voter\n", "not one vote"),
    ):
        (tmp_path / "votes.csv").write_text(text)
        with pytest.raises((BadVotes, ValueError), match=message):
            study.votes(folder, [tmp_path / "votes.csv"])


def test_ratings_are_the_most_likely_ones() -> None:
    """With three to one between two methods, the log of their ratio is log 3, but for the tie each begins with."""
    votes = [Vote(str(n), "a", "b", float(n % 4 != 0)) for n in range(400)]
    best, worst = rate(votes)
    assert best.method == "a" and best.rating.mean - worst.rating.mean == pytest.approx(1.0986, abs=0.02)
    assert best.rating.ends is not None and best.rating.ends[0] < best.rating.mean < best.rating.ends[1]
    ties = rate([Vote(str(n), "a", "b", 0.5) for n in range(10)])
    assert ties[0].rating.mean == pytest.approx(0, abs=1e-6)
    only = rate([Vote(str(n), "a", "b", 1.0) for n in range(10)])
    assert 1 < only[0].rating.mean - only[1].rating.mean < 10
    import numpy as np

    true = np.array([0.8, 0.1, -0.9])
    chance = 1 / (1 + np.exp(true[None, :] - true[:, None]))
    np.fill_diagonal(chance, 0)
    assert strengths(1e5 * chance) == pytest.approx(true, abs=1e-3)
