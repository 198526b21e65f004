"""How much gradio may hold in memory for its pages: what waits for its turn, what nobody fetches, and what pages said.

Gradio bounds how many events wait, and not how large they are; it keeps the answer to each until its page fetches it,
and of each page the values that it sent last. Here events and answers are bounded by bytes, and values are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Queue
from gradio.state_holder import SessionState, StateHolder

from ui.walls.bodies import SIZE

MOST = 256 << 20  # bytes of events that wait and of answers that are not fetched
_LEAST = 64 << 10  # bytes that an event counts as, however small it is: answers may be larger than questions
_FULL = "others have sent as much as waits here at a time; try again in a while"


class _Sent(NamedTuple):
    """An event whose answer its page has not fetched yet."""

    session: str
    size: int


class Backlog:
    """Bounds a queue of gradio's by bytes. Everything here runs on the event loop."""

    def __init__(self, queue: Queue, most: int = MOST) -> None:
        """Stand in front of a queue."""
        self._queue, self._most = queue, most
        self._push = queue.push
        self._sent: dict[str, _Sent] = {}  # by events, in the order in which they came
        queue.push = self.push

    @property
    def size(self) -> int:
        """Return the bytes that are held."""
        return sum(sent.size for sent in self._sent.values())

    async def push(self, body: PredictBodyInternal, request: Any, username: str | None) -> Any:
        """Take an event if there is room; answers that nobody fetches give way to it, the oldest first."""
        size = max(int(request.scope.get(SIZE, 0)), _LEAST)
        if not self._made_room(size):
            return False, _FULL, "queue_full"
        session = body.session_hash
        taken, event, state = await self._push(body, request, username)
        if taken and isinstance(event, str):
            self._sent[event] = _Sent(session or event, size)
        return taken, event, state

    def _made_room(self, size: int) -> bool:
        self._sent = {event: sent for event, sent in self._sent.items() if event in self._pending(sent)}
        for event in list(self._unfetched()):
            if self.size + size <= self._most:
                break
            self._forget(event)
        return self.size + size <= self._most

    def _pending(self, sent: _Sent) -> set[str]:
        return self._queue.pending_event_ids_session.get(sent.session, set())

    def _unfetched(self) -> Iterator[str]:
        """Yield the events that are over."""
        return (event for event in self._sent if event not in self._queue.event_ids_to_events)

    def _forget(self, event: str) -> None:
        """Drop an answer, and what else its page has not fetched."""
        session = self._sent.pop(event).session
        self._queue.pending_event_ids_session.get(session, set()).discard(event)
        messages = self._queue.pending_messages_per_session.get(session)
        while messages is not None and not messages.empty():
            messages.get_nowait()


def keep_no_values(mount: Any) -> None:
    """Let the gradio that is mounted there remember its pages as `Sessions` does."""
    mount.app.state_holder = Sessions()
    mount.app.state_holder.set_blocks(mount.app.get_blocks())


class Sessions(StateHolder):
    """Gradio's memory of its pages."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = _Session(self.blocks)
        return super().__getitem__(session_id)


class _Session(SessionState):
    """What gradio knows of one page: which choices its fields have by now, but not what was in them."""

    config_values: Any = property(lambda self: {}, lambda self, value: None)  # always empty

    def _update_config(self, key: int) -> None:
        """Keep nothing: it would be for links to a page's state, which are closed."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keep nothing."""
