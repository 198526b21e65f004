"""Blind votes on the pictures of a comparison, and the ratings that come of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from pydantic import JsonValue

from composer import registry
from composer.errors import BadRequest
from ui import ratings, widgets
from ui.history import Kept
from ui.service import Service
from ui.tabs.common import QUIET, item, shown, told

_WAITING = "Two pictures of the comparison above, without their names; it is hidden until you have voted."
_CHOICES = (("Left is better", "left", 1.0), ("No difference", "tie", 0.5), ("Right is better", "right", 0.0))


def build(service: Service, grid: gr.HTML, beside: tuple[gr.HTML, gr.HTML]) -> None:
    """Lay the votes out below a grid, which is veiled while somebody makes up their mind.

    The slider and the record `beside` it, which name methods too, are emptied.
    """
    with gr.Accordion("Blind vote", open=False, elem_id="vote"):
        pair = widgets.gallery("vote_pair", _WAITING)
        secret = gr.State(())
        with gr.Row():
            ask = gr.Button("Show me two", size="sm", elem_id="vote_ask")
            buttons = [gr.Button(text, size="sm", elem_id=f"vote_{name}") for text, name, _ in _CHOICES]
        table = gr.HTML(_table(service), elem_id="ratings", apply_default_css=False)

    @told
    def two(now: Any) -> tuple[Any, ...]:
        drawn = _drawn(service, now)
        items: list[JsonValue] = [
            {**item(one, side), "alt": f"the {side} picture"}
            for one, side in zip(drawn, ("left", "right"), strict=True)
        ]
        return shown(items), tuple(one.id for one in drawn), _veiled(now, True), {}, ""

    @told
    def judge(ids: Sequence[str], now: Any, point: float) -> tuple[Any, ...]:
        if len(ids) != 2:
            raise BadRequest("press 'Show me two' first")
        left, right = (service.history.picture(one) for one in ids)
        service.history.vote(ratings.of_pictures(left, right, point))
        said = f"Left was {_title(left.record.method)}, right was {_title(right.record.method)}."
        return shown([], empty=said), (), _veiled(now, False), _table(service)

    ask.click(two, grid, [pair, secret, grid, *beside], **QUIET)
    for button, (_, _, point) in zip(buttons, _CHOICES, strict=True):
        _connect(button, judge, point, ([secret, grid], [pair, secret, grid, table]))


def _connect(button: gr.Button, judge: Any, point: float, between: tuple[list[Any], list[Any]]) -> None:
    button.click(lambda ids, now: judge(ids, now, point), *between, **QUIET)


def _drawn(service: Service, grid: Any) -> list[Kept]:
    """Draw two pictures that differ by their method and by nothing else, and their sides."""
    items = grid.get("items", []) if isinstance(grid, dict) else []
    kept = [service.history.picture(str(one["id"])) for one in items]
    pairs = [
        [one, other] for place, one in enumerate(kept) for other in kept[place + 1 :] if ratings.comparable(one, other)
    ]
    if not pairs:
        raise BadRequest("compare two methods first; then there is something to choose between")
    drawn = random.choice(pairs)
    random.shuffle(drawn)
    return drawn


def _veiled(grid: Any, now: bool) -> JsonValue:
    return {**grid, "veiled": now} if isinstance(grid, dict) else grid


def _title(method: str) -> str:
    return registry.describe(method).title if method in registry.names() else method


def _table(service: Service) -> str:
    """Return the methods by their ratings; nothing before the first vote."""
    votes = service.history.votes()
    if not votes:
        return ""
    enough = ratings.enough(votes)
    rows = "".join(
        f"<tr><th scope='row'>{escape(_title(one.method))}</th><td>{one.rating.mean:+.2f}</td>"
        f"<td>{f'{one.rating.low:+.2f} to {one.rating.high:+.2f}' if enough else '–'}</td><td>{one.votes}</td></tr>"
        for one in ratings.rated(votes)
    )
    head = "".join(f"<th scope='col'>{text}</th>" for text in ("Method", "Rating", "95 % interval", "Votes"))
    more = "" if enough else f" An interval needs votes on {ratings.ENOUGH} comparisons."
    note = f"Bradley-Terry ratings of all votes: 0 is the average, 1 more wins {ratings.SHARE:.0%} of votes.{more}"
    return (
        f"<p class='m-note'>{note}</p><div class='m-scroll'><table class='m-table'>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
