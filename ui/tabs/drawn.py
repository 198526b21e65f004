"""What a method does step by step, drawn: of the fields as they stand, of the job under way, of a picture made."""

from __future__ import annotations

from html import escape

from composer.outline import Outline
from composer.request import RenderRequest
from composer.sharing import display_name
from lora_zoo.errors import ZooError
from ui import charts, discreet, words
from ui.errors import DamagedRow, NotThere
from ui.history import Kept
from ui.service import Service


def plan(service: Service, request: RenderRequest) -> str:
    """Return what a request will do in each step; what is wrong with it is a typed error."""
    return _drawn(service, service.outline(request))


def job(service: Service, job: str) -> str:
    """Return what the first picture of a job does in each step, as far as it is known by now; nothing if it is gone."""
    try:
        standing = service.standing(job)
        known = None if standing.live is None else standing.live.outlines.get(0)
        return plan(service, standing.job.asked.requests[0]) if known is None else _drawn(service, known)
    except (NotThere, DamagedRow):
        return ""


def picture(service: Service, kept: Kept) -> str:
    """Return how a picture was made, in words and, as long as all that it took is here, step by step."""
    try:
        known = kept.outline
        drawn = plan(service, kept.record.request()) if known is None else _drawn(service, known)
    except ZooError as error:
        drawn = f'<p class="m-note">Its steps cannot be drawn any more: {escape(discreet.said(error))}</p>'
    return words.record(kept) + drawn


def _drawn(service: Service, found: Outline) -> str:
    entries = {line.name: service.shelf.loras.get(line.name) for line in found.lines}
    labels = {name: display_name(name) if entry is None else entry.name for name, entry in entries.items()}
    drawn = charts.timeline(found, labels)
    if not found.ranked:
        return drawn
    measured = {name: service.shelf.library.profile(one) for name, one in entries.items() if one is not None}
    places = {name: place for place, name in enumerate(entries)}
    return drawn + charts.profiles({name: rings for name, rings in measured.items() if rings}, labels, places)
