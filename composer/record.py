"""What was done: the request with every default replaced, and the facts that explain or repeat the picture."""

from __future__ import annotations

from collections.abc import Mapping

from composer.request import Choices, RenderRequest


class RenderRecord(RenderRequest):
    """A superset of the request as resolved. Adapters carry their sha256, so repeating refuses changed files."""

    choices: Choices = "text"  # as all records have it, those too that were made before they said so
    versions: Mapping[str, str]  # package -> version; of Medley itself, a digest of its code
    dtype: str
    device: str
    rows_per_call: int  # the largest UNet call that this picture shared; bits depend on it, the picture does not
    unet_passes: int  # evaluations asked for by the method, with or without an unconditional row
    unet_rows: int | None = None  # samples that went through the UNet for it; None: made before they were counted
    shallow_passes: int = 0  # evaluations of its outer layers only, on deep features of an earlier step
    looks: int = 0  # evaluations between steps, to see what attention reads; all but those of steps ahead are partial
    slopes: int = 0  # of these, those followed by a backward pass
    unet_calls: int  # calls of the UNet that held rows of this picture
    seconds: float | None  # this picture's share of the time of all rendered together, without loading the model
    pixels_sha256: str  # of the picture's RGB bytes
    notices: tuple[str, ...] = ()  # what the user should know, e.g. that a prompt was cut

    def request(self) -> RenderRequest:
        """Return the request that repeats this picture."""
        fields = set(RenderRequest.model_fields)
        return RenderRequest.model_validate(self.model_dump(include=fields))
