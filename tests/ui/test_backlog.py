"""What gradio holds in memory for its pages: bounded by bytes, in front of a queue of gradio's that does nothing."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import gradio as gr
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Queue
from starlette.requests import Request

from tests.ui.waiting import finished
from ui.backlog import Backlog, Sessions
from ui.walls.bodies import SIZE

MEGABYTE = 1 << 20


def page() -> gr.Blocks:
    with gr.Blocks() as blocks:
        text = gr.Textbox()
        text.change(lambda value: value, text, text)
    return blocks


class Asked:
    """A queue behind a bound, and events that are sent to it; none is done unless it is said."""

    def __init__(self, most: int) -> None:
        blocks = page()
        blocks.queue()
        self.queue: Queue = blocks._queue
        self.backlog = Backlog(self.queue, most)

    async def send(self, size: int, session: str = "") -> tuple[bool, str]:
        request = Request({"type": "http", "headers": [], SIZE: size})
        body = PredictBodyInternal(
            fn_index=0, data=["x"], session_hash=session or uuid4().hex, request=None, event_data=None
        )
        taken, told, _ = await self.queue.push(body, request, None)  # pyright: ignore[reportArgumentType]
        return taken, str(told)

    def done(self, event: str) -> None:
        """Let an event be over, and its answer wait for its page."""
        found = self.queue.event_ids_to_events.pop(event)
        self.queue.event_queue_per_concurrency_id[found.concurrency_id].queue.remove(found)
        self.queue.pending_messages_per_session[found.session_hash].put_nowait(None)  # pyright: ignore[reportArgumentType]


def test_events_wait_as_long_as_there_is_room_for_their_bytes() -> None:
    async def sent() -> list[bool]:
        asked = Asked(3 * MEGABYTE)
        return [(await asked.send(MEGABYTE))[0] for _ in range(5)]

    assert finished(sent()) == [True] * 3 + [False] * 2


def test_small_events_count_too() -> None:
    async def sent() -> int:
        asked = Asked(MEGABYTE)
        return sum([(await asked.send(10))[0] for _ in range(100)])

    assert finished(sent()) == 16


def test_who_is_refused_is_told_to_come_back() -> None:
    taken, told = finished(Asked(10).send(11))
    assert not taken and "try again in a while" in told


def test_answers_that_nobody_fetches_give_way_the_oldest_first() -> None:
    async def sent() -> tuple[list[bool], list[int], int]:
        asked = Asked(3 * MEGABYTE)
        events = [(await asked.send(MEGABYTE, f"page{number}"))[1] for number in range(3)]
        for event in events[:2]:
            asked.done(event)
        taken = [(await asked.send(MEGABYTE, "another"))[0] for _ in range(3)]
        left = [asked.queue.pending_messages_per_session[f"page{number}"].qsize() for number in range(2)]
        return taken, left, asked.backlog.size

    taken, left, size = finished(sent())
    assert taken == [True, True, False]  # two were over, and one waits still
    assert left == [0, 0] and size == 3 * MEGABYTE


def test_answers_that_were_fetched_take_no_room() -> None:
    async def sent() -> list[bool]:
        asked = Asked(MEGABYTE)
        found: list[bool] = []
        for _ in range(4):
            taken, event = await asked.send(MEGABYTE, "page")
            found.append(taken)
            asked.done(event)
            asked.queue.pending_event_ids_session["page"].discard(event)  # as gradio does when a page has it
        return found

    assert finished(sent()) == [True] * 4


def test_of_a_page_no_value_is_kept() -> None:
    blocks = page()
    sessions = Sessions()
    sessions.set_blocks(blocks)
    (key,) = [number for number, block in blocks.blocks.items() if isinstance(block, gr.Textbox)]
    session: Any = sessions["page"]
    session._update_value_in_config(key, "x" * MEGABYTE)
    session[key] = gr.Textbox(max_length=7, render=False)
    assert (session[key].max_length, list(session.components)) == (7, [])
    assert session is sessions["page"]
