"""The service without a page: what it accepts, does, keeps, stops and takes up again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from composer.errors import BadRequest
from composer.request import AdapterUse, Region, RenderRequest
from eval.judge.ratings import Vote
from lora_zoo.errors import UnknownName
from pipelines import images
from pipelines.engine import Engine
from pipelines.jobs.states import State
from ui import ratings, words
from ui.errors import NotAllowed, NotThere, TooBusy, TooMuch
from ui.history import Asked, History
from ui.limits import Limits
from ui.service import Service, goes_of
from ui.tabs import drawn

LIMITS = Limits(waiting=5, pictures=40, job_gflop=690.5)
LORAS = (AdapterUse(name="zorp"), AdapterUse(name="neon", weight=0.8))


@pytest.fixture(scope="module")
def tiny() -> Engine:
    return Engine()


@pytest.fixture
def make(tiny: Engine, tmp_path: Path) -> Iterator[Callable[[], Service]]:
    made: list[Service] = []

    def service() -> Service:
        made.append(Service(tiny, tmp_path, limits=LIMITS))
        return made[-1]

    yield service
    for one in made:
        one.stop()


def ask(**fields: object) -> RenderRequest:
    return RenderRequest.model_validate({"prompt": "zorp", "num_inference_steps": 2, **fields})


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_a_job_gives_the_pictures_that_the_engine_gives(make: Callable[[], Service], tiny: Engine) -> None:
    service = make()
    service.start()
    requests = tuple(ask(adapters=LORAS, seed=seed) for seed in (1, 2))
    job = service.submit(Asked(requests, title="two"))
    assert service.wait(job.id, 60).job.state is State.DONE
    kept = service.history.pictures(job.id)
    expected = tiny.render_many(requests)
    assert [one.record.pixels_sha256 for one in kept] == [one.record.pixels_sha256 for one in expected]
    read = images.read_record(service.history.file(kept[1].id))
    assert (read.seed, read.adapters[1].weight) == (2, 0.8)
    assert service.cost(requests).unet_passes == 4


def test_tags_in_the_prompt_are_loras(make: Callable[[], Service]) -> None:
    (resolved,) = make().resolve([ask(prompt="zorp <lora:zorp:0.5> at night <lora:neon:-0.25:0.75>")])
    assert resolved.prompt.split() == ["zorp", "at", "night"]
    assert [(use.name, use.weight) for use in resolved.adapters] == [("zorp", 0.5), ("neon", 0.75)]
    assert resolved.adapters[1].text_encoder_weight == -0.25


def test_a_running_job_is_seen_and_stopped(make: Callable[[], Service]) -> None:
    service = make()
    service.start()
    job = service.submit(Asked((ask(num_inference_steps=100),)))
    frames: dict[int, str] = {}

    def seen() -> bool:
        live = service.standing(job.id).live
        if live is not None and live.previews:
            frames[live.frame] = live.previews[0]
        return len(frames) > 2

    until(seen)
    assert len(set(frames.values())) > 2
    service.cancel(job.id)
    at = service.standing(job.id).live
    assert service.wait(job.id, 30).job.state is State.CANCELLED
    assert at is not None and at.step < 100
    assert service.history.pictures(job.id) == []


def test_mistakes_are_refused_before_a_job_is_accepted(make: Callable[[], Service]) -> None:
    service = make()
    mask = Region(mask="/etc/hostname")
    refusals = [
        (NotAllowed, "model '/some/folder' is not offered", ask(model="/some/folder")),
        (NotAllowed, "'org/name' is not offered", ask(model="org/name")),
        (NotAllowed, "did you mean 'zorp'", ask(adapters=[{"name": "zorpp"}])),
        (NotAllowed, "not in the zoo", ask(adapters=[{"name": "/tmp/x.safetensors"}])),
        (NotAllowed, "not in the zoo", ask(prompt="a <lora:/tmp/x.safetensors:1>")),
        (NotAllowed, "not by path", ask(method="regional", adapters=[{"name": "zorp", "region": mask}])),
        (NotAllowed, "given inline", ask(start={"image": "/etc/hostname"})),
        (UnknownName, "unknown method", ask(method="merg")),
        (BadRequest, "multiple of", ask(width=63)),
        (TooMuch, "more than 690 GFLOP", ask(num_inference_steps=401)),
    ]
    for error, message, request in refusals:
        with pytest.raises(error, match=message):
            service.submit(Asked((request,)))
    with pytest.raises(TooMuch, match="1 to 40 pictures"):
        service.submit(Asked((ask(),) * 41))
    with pytest.raises(NotThere, match="no job 'x'"):
        service.standing("x")
    assert service.history.jobs() == []


def test_the_queue_has_an_end_an_order_and_a_way_out(make: Callable[[], Service]) -> None:
    service = make()  # not started: all of them wait
    ids = [service.submit(Asked((ask(seed=n),))).id for n in range(5)]
    with pytest.raises(TooBusy, match="5 jobs are waiting"):
        service.submit(Asked((ask(),)))
    service.history.move(ids[4], up=True)
    service.history.move(ids[0], up=True)
    service.cancel(ids[1])
    waiting = [job.id for job in service.history.jobs() if job.state is State.WAITING]
    assert waiting == [ids[0], ids[2], ids[4], ids[3]]
    assert service.standing(ids[4]).ahead == 2
    service.resume(ids[1])
    assert service.standing(ids[1]).ahead == 4


def test_nothing_accepted_is_lost_when_the_server_ends(make: Callable[[], Service], tmp_path: Path) -> None:
    first = make()
    first.start()
    done = first.submit(Asked((ask(),)))
    first.wait(done.id, 60)
    long = first.submit(Asked(tuple(ask(seed=n) for n in range(40))))
    waiting = first.submit(Asked((ask(prompt="a <b>meadow</b>"),)))
    until(lambda: len(first.history.pictures(long.id)) == 16)
    before = {one.id for one in first.history.pictures(long.id)}
    first.stop()
    again = make()
    assert again.history.job(long.id).state is State.WAITING
    again.start()
    assert again.wait(waiting.id, 120).job.state is State.DONE
    pictures = again.history.pictures(long.id)
    assert len(pictures) == 40 and before <= {one.id for one in pictures}
    assert [one.job for one in again.history.search("MEADOW <b>")] == [waiting.id]
    assert again.history.search("nothing-like-it") == []


def test_a_job_that_ends_the_server_is_given_up(make: Callable[[], Service]) -> None:
    service = make()
    job = service.submit(Asked((ask(),)))
    for _ in range(3):
        assert service.history.next() is not None
        service.history.recover()
    service.start()
    standing = service.wait(job.id, 30)
    assert standing.job.state is State.QUARANTINED and "3 times" in standing.job.error


def test_goes_are_those_of_the_command_line(tmp_path: Path) -> None:
    requests = [ask(seed=seed) for seed in range(20)]
    assert [[place for place, _ in go] for go in goes_of(requests)] == [list(range(16)), list(range(16, 20))]


def test_a_flood_is_refused_politely_and_nothing_accepted_is_lost(make: Callable[[], Service]) -> None:
    service = make()
    service.start()
    accepted: list[str] = []
    refused = 0
    for seed in range(1000):
        try:
            accepted.append(service.submit(Asked((ask(num_inference_steps=1, seed=seed),))).id)
        except TooBusy:
            refused += 1
    until(lambda: service.history.count(State.DONE) == len(accepted), 110)
    assert refused > 0 and refused + len(accepted) == 1000
    assert all(len(service.history.pictures(job)) == 1 for job in accepted)


def test_what_a_method_saw_is_kept(make: Callable[[], Service]) -> None:
    service = make()
    service.start()
    pair = (AdapterUse(name="zorp"), AdapterUse(name="neon"))
    request = ask(prompt="zorp, neon glow style", adapters=pair, method="freefuse", num_inference_steps=6)
    job = service.submit(Asked((request,)))
    assert service.wait(job.id, 60).job.state is State.DONE
    (kept,) = service.history.pictures(job.id)
    assert kept.findings and words.record(kept).count("<figure>") == len(kept.findings)


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["clora", "freefuse"])
def test_what_a_method_sees_is_shown_while_it_renders(method: str, make: Callable[[], Service]) -> None:
    service = make()
    service.start()
    pair = (AdapterUse(name="zorp"), AdapterUse(name="neon"))
    fields = {"method": method, "num_inference_steps": 12, "parameters": {"refine": 0} if method == "clora" else {}}
    job = service.submit(Asked((ask(prompt="zorp, neon glow style", adapters=pair, **fields),)))
    seen: list[dict[str, str]] = []

    def watched() -> bool:
        live = service.standing(job.id).live
        if live is not None and live.findings and live.step < live.steps:
            seen.append(dict(live.findings))
        return service.history.job(job.id).state is State.DONE

    until(watched, 60)
    (kept,) = service.history.pictures(job.id)
    assert seen and all(list(one) == list(kept.findings) for one in seen)
    assert list(kept.findings)[:2] == ["mask of zorp", "mask of neon"]
    assert (len({one["mask of zorp"] for one in seen}) > 1) == (method == "clora")  # which masks each step anew


@pytest.mark.thorough
def test_turns_that_the_prompt_decides_are_known_once_it_was_read(make: Callable[[], Service]) -> None:
    service = make()
    service.start()
    pair = (AdapterUse(name="zorp"), AdapterUse(name="neon"))
    asked = ask(prompt="zorp, neon glow style", adapters=pair, method="w_composite", num_inference_steps=40)
    job = service.submit(Asked((asked, asked.model_copy(update={"method": "merge", "parameters": {}}))))
    until(lambda: (live := service.standing(job.id).live) is not None and bool(live.outlines))
    assert service.glance(job.id)["known"] is True
    assert service.wait(job.id, 60).job.state is State.DONE
    told, plain = service.history.pictures(job.id)
    assert plain.outline is None
    guess, known = service.outline(asked), told.outline
    assert known is not None and (guess.read, guess.known, known.read, known.known) == (True, False, True, True)
    assert guess.lines[0].strengths[0] == guess.lines[1].strengths[0] == pytest.approx(0.5)
    assert known.lines[0].strengths[0] != pytest.approx(0.5, abs=1e-4)
    assert sum(line.strengths[0] for line in known.lines) == pytest.approx(1.0)
    assert "Provisional" in drawn.plan(service, asked)
    assert "Provisional" not in (page := drawn.picture(service, told)) and "what the model read in the prompt" in page


def test_votes_are_rated_as_the_evaluation_rates_them(tmp_path: Path) -> None:
    history = History(tmp_path)
    for job in range(6):
        for point in (1.0, 1.0, 0.5, 0.0):
            history.vote(Vote(f"job {job}", "merge", "switch", point))
    votes = history.votes()
    history.close()
    first, second = ratings.rated(votes)
    assert (first.method, second.method, first.votes) == ("merge", "switch", 24)
    # 2.5 points to 1.5 of each four votes; one tie against an average method draws both a little to the middle
    assert first.rating.mean - second.rating.mean == pytest.approx(math.log(15 / 9), abs=0.05)
    assert first.rating.ends is not None and first.rating.ends[0] <= first.rating.mean <= first.rating.ends[1]
    assert ratings.enough(votes) and not ratings.enough(votes[:16])


def test_a_vote_is_between_pictures_that_differ_by_their_method_only(make: Callable[[], Service]) -> None:
    service = make()
    service.start()
    both = tuple(ask(adapters=LORAS, method=method, seed=seed) for method in ("merge", "switch") for seed in (1, 2))
    job = service.submit(Asked(both, "compare"))
    assert service.wait(job.id, 60).job.state is State.DONE
    kept = service.history.pictures(job.id)
    assert [ratings.comparable(kept[0], one) for one in kept] == [False, False, True, False]
    vote = ratings.of_pictures(kept[0], kept[2], 0.5)
    assert vote == Vote(job.id, "merge", "switch", 0.5)


def test_a_server_that_ends_in_peace_has_not_failed_at_a_job(make: Callable[[], Service]) -> None:
    first = make()
    job = first.submit(Asked((ask(num_inference_steps=200),)))
    first.start()

    def begun(service: Service) -> bool:
        return service.standing(job.id).live is not None

    for _ in range(4):
        until(partial(begun, first))
        first.stop()
        first = make()
        assert (first.history.job(job.id).state, first.history.job(job.id).attempts) == (State.WAITING, 0)
        first.start()
    first.cancel(job.id)


def test_jobs_are_listed_open_ones_first_then_the_newest(tmp_path: Path) -> None:
    history = History(tmp_path)
    ids = [history.add(Asked((ask(seed=n),))).id for n in range(5)]
    for job, state in zip(ids, (State.DONE, State.CANCELLED, State.FAILED, State.RUNNING, State.WAITING), strict=True):
        history.set_state(job, state)
    assert [job.id for job in history.jobs()] == [ids[3], ids[4], ids[2], ids[1], ids[0]]
    history.close()
