"""What a method does step by step, drawn: of the fields as they stand, of the job under way, of a picture made."""

from __future__ import annotations

from html import escape

from composer.request import RenderRequest
from lora_zoo.errors import ZooError
from ui import charts, words
from ui.errors import NotThere
from ui.history import Kept
from ui.service import Service


def plan(service: Service, request: RenderRequest) -> str:
    """Return what a request will do in each step; what is wrong with it is a typed error."""
    found = service.outline(request)
    entries = {line.name: service.loras[line.name] for line in found.lines}
    labels = {name: entry.name for name, entry in entries.items()}
    drawn = charts.timeline(found, labels)
    if not found.ranked:
        return drawn
    measured = {name: service.library.profile(entry) for name, entry in entries.items()}
    places = {name: place for place, name in enumerate(entries)}
    return drawn + charts.profiles({name: rings for name, rings in measured.items() if rings}, labels, places)


def job(service: Service, job: str) -> str:
    """Return what the first picture of a job does in each step; nothing if the job is not there."""
    try:
        return plan(service, service.history.job(job).asked.requests[0])
    except NotThere:
        return ""


def picture(service: Service, kept: Kept) -> str:
    """Return how a picture was made, in words and, as long as all that it took is here, step by step."""
    try:
        drawn = plan(service, kept.record.request())
    except ZooError as error:
        drawn = f'<p class="m-note">Its steps cannot be drawn any more: {escape(str(error))}</p>'
    return words.record(kept) + drawn
