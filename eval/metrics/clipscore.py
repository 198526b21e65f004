"""CLIPScore: 100 times the cosine of a picture and a text by CLIP, not below 0 (arXiv:2104.08718, without its 2.5).

`clipscore` is the published testbed's protocol: the text is all trigger words, joined, without what every prompt of the
suite begins with. It averages omissions away; the score of each member by itself, and the lowest of them, do less so.
"""

from __future__ import annotations

from eval.metrics.batch import Batch
from eval.metrics.registry import Found, Measure, metric


@metric(
    "clipscore",
    Measure(
        "clipscore",
        "CLIPScore",
        "100 cos",
        "higher",
        "picture and all trigger words, joined as the published protocol joins them",
    ),
    Measure("clipscore_prompt", "CLIPScore, prompt", "100 cos", "higher", "picture and the whole prompt"),
    Measure("clipscore_mean", "CLIPScore, members", "100 cos", "higher", "mean over members, each text by itself"),
    Measure("clipscore_least", "CLIPScore, weakest", "100 cos", "higher", "the lowest of the members' own"),
    by="clip",
)
def clipscore(batch: Batch) -> list[Found]:
    """Read every text once, then compare."""
    clip = batch.tools.clip
    texts = {text for shot in batch.shots for text in (shot.case.set.text, shot.case.set.prompt)}
    texts |= {one.text for shot in batch.shots for one in shot.case.set.members}
    known = sorted(texts)
    place = {text: index for index, text in enumerate(known)}
    scores = (100 * batch.seen_by(clip) @ clip.texts(known).T).clamp(min=0).tolist()
    out: list[Found] = []
    for shot, row in zip(batch.shots, scores, strict=True):
        own = {one.name: row[place[one.text]] for one in shot.case.set.members}
        values = {
            "clipscore": row[place[shot.case.set.text]],
            "clipscore_prompt": row[place[shot.case.set.prompt]],
            "clipscore_mean": sum(own.values()) / len(own),
            "clipscore_least": min(own.values()),
        }
        out.append(Found(values, own))
    return out
