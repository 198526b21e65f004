"""Deep features of a UNet, kept from one call and used in a later one (DeepCache, arXiv:2312.00858).

What is kept is the tensor that enters the last `layers` layers (resnet and attention) of the last up block. A shallow
call computes what comes before and after it only: the input convolution, `layers` - 1 layers of the first down block,
whose outputs the up block reads beside it, those layers, and the output. Everything deeper is passed by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, cat, nn

from pipelines.fronts import in_front


class DeepFeatures:
    """The way to and past the deep part of one UNet. Any UNet of two levels or more has one."""

    def __init__(self, unet: nn.Module) -> None:
        blocks = cast(Any, unet)
        self._down, self._up = list(blocks.down_blocks), list(blocks.up_blocks)
        self._mid = blocks.mid_block
        self._skip_channels = int(blocks.config.block_out_channels[0])

    def layers(self, wanted: int) -> int:
        """Return how many layers of the last up block a shallow call computes; 0 asks for all of them."""
        there = len(self._up[-1].resnets)
        return min(wanted or there, there)

    @contextmanager
    def kept(self, wanted: Iterable[int]) -> Iterator[Mapping[int, Tensor]]:
        """Collect what enters the last so many layers in the call inside: layers -> [rows, channels, h, w]."""
        found: dict[int, Tensor] = {}
        places = {layers: self._up[-1].resnets[-layers] for layers in dict.fromkeys(map(self.layers, wanted))}

        def keeping(layers: int, resnet: nn.Module) -> Any:
            forward = resnet.forward

            def keep(x: Tensor, *rest: Any) -> Tensor:
                found[layers] = x[:, : -self._skip_channels]  # a skip connection lies behind the features
                return forward(x, *rest)

            return keep

        with in_front({resnet: keeping(layers, resnet) for layers, resnet in places.items()}):
            yield found

    def shallow(self, wanted: int, deep: Tensor) -> AbstractContextManager[None]:
        """Let the call inside use kept features, [rows, channels, h, w], in place of the deep part."""
        layers = self.layers(wanted)
        first, *others = self._down
        passed = {block: _Passed(_outputs(block)) for block in others}
        return in_front(
            {
                first: _First(first, layers - 1),
                **passed,
                self._mid: _unchanged,
                **{block: _unchanged for block in self._up[:-1]},
                self._up[-1]: _Last(self._up[-1], layers, deep),
            }
        )


@dataclass(frozen=True, eq=False)
class _First:
    """The first layers of the first down block; what the others would return is never read."""

    block: Any
    layers: int

    def __call__(self, hidden_states: Tensor, temb: Tensor, **context: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs: list[Tensor] = []
        for place in range(self.layers):
            hidden_states = _layer(self.block, place, hidden_states, temb, context)
            outputs.append(hidden_states)
        missing = _outputs(self.block) - len(outputs)
        return hidden_states, (*outputs, *[hidden_states] * missing)


@dataclass(frozen=True, eq=False)
class _Passed:
    """A down block that is passed by."""

    outputs: int

    def __call__(self, hidden_states: Tensor, **_unused: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        return hidden_states, (hidden_states,) * self.outputs


@dataclass(frozen=True, eq=False)
class _Last:
    """The last layers of the last up block, which begin with what was kept."""

    block: Any
    layers: int
    deep: Tensor

    def __call__(self, temb: Tensor, res_hidden_states_tuple: tuple[Tensor, ...], **context: Any) -> Tensor:
        hidden, there = self.deep, len(self.block.resnets)
        for place in range(self.layers):
            skip = res_hidden_states_tuple[self.layers - 1 - place]
            hidden = _layer(self.block, there - self.layers + place, cat([hidden, skip], 1), temb, context)
        return hidden


def _layer(block: Any, place: int, hidden: Tensor, temb: Tensor, context: Mapping[str, Any]) -> Tensor:
    """Run one resnet of a block and the attention after it, if the block has attention."""
    hidden = block.resnets[place](hidden, temb)
    if not hasattr(block, "attentions"):
        return hidden
    text = context["encoder_hidden_states"]
    return block.attentions[place](hidden, encoder_hidden_states=text, return_dict=False)[0]


def _outputs(block: Any) -> int:
    return len(block.resnets) + (block.downsamplers is not None)


def _unchanged(hidden_states: Tensor, *_unused: Any, **_also_unused: Any) -> Tensor:
    return hidden_states
