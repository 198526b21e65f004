"""What a UNet call, a decoding and a text cost in arithmetic and memory, told from configurations alone.

Multiplications and additions of products, convolutions and attention, as torch's counter has them. A part of them
grows with the picture's area; that of self-attention with its square. What LoRAs add is not counted: with factors of
rank r it is about r / width of the layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.configs import Configs
from pipelines.errors import BadModel

_MOST = 1000  # layers of a block: what states more is no network

_ATTENDING = "CrossAttn"  # in the type of a block that has transformers


@dataclass(frozen=True)
class Piece:
    """One part of a network: what it computes, and how many values it holds at a time while it does."""

    flop: float
    held: float = 0.0


def conv(places: int, wide: int, out: int, side: int = 3) -> float:
    """Return the FLOP of a convolution that gives so many places; a linear layer is one of side 1."""
    return 2.0 * side * side * wide * out * places


def resnet(places: int, wide: int, out: int, told: int = 0) -> Piece:
    """Return a residual block, with the product by which it is told the timestep, from so many channels."""
    shortcut = conv(places, wide, out, 1) if wide != out else 0.0
    flop = conv(places, wide, out) + conv(places, out, out) + shortcut + conv(1, told, out, 1)
    return Piece(flop, places * max(3 * wide, wide + 3 * out))


def transformer(places: int, wide: int, layers: int, text: tuple[int, int]) -> Piece:
    """Return a transformer over all places that reads a text of (tokens, width)."""
    tokens, context = text
    own = conv(places, wide, 4 * wide, 1) + 4.0 * places * places * wide
    read = conv(places, wide, 2 * wide, 1) + conv(tokens, context, 2 * wide, 1) + 4.0 * places * tokens * wide
    forward = conv(places, wide, 8 * wide, 1) + conv(places, 4 * wide, wide, 1)
    return Piece(2 * conv(places, wide, wide, 1) + layers * (own + read + forward), 19.0 * places * wide)


@dataclass(frozen=True)
class Latents:
    """What one row of a UNet call reads: latents of this size, and so many tokens of text."""

    height: int
    width: int
    tokens: int

    def halved(self, times: int) -> int:
        """Return the number of places where the latents were halved so often."""
        by = 2**times
        return -(-self.height // by) * -(-self.width // by)


class UnetCost:
    """What a UNet of this configuration takes; SD1.5's architecture and SDXL's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._channels = [int(width) for width in config["block_out_channels"]]
        self._levels = len(self._channels)
        self._attends = [_ATTENDING in str(kind) for kind in config.get("down_block_types", ())]
        up = config.get("up_block_types") or tuple(reversed(config.get("down_block_types", ())))
        self._attends_up = [_ATTENDING in str(kind) for kind in up]
        self._layers = _by_level(config.get("layers_per_block", 2), self._levels)
        self._depths = _by_level(config.get("transformer_layers_per_block", 1), self._levels)
        self._middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
        self._ends = int(config.get("in_channels", 4)), int(config.get("out_channels", 4))
        self._context = int(config.get("cross_attention_dim") or 0)
        self._added = int(config.get("projection_class_embeddings_input_dim") or 0)

    def row(self, latents: Latents) -> float:
        """Return the FLOP of one row of a whole call."""
        return sum(piece.flop for _, piece in self._pieces(latents))

    def shallow(self, latents: Latents, layers: int) -> float:
        """Return the FLOP of one row that takes kept features and computes the last `layers` layers; 0: the block."""
        there = self._layers[0] + 1
        wanted = min(layers or there, there)
        kept = {"ends", *(f"down.0.{place}" for place in range(wanted - 1))}
        kept |= {f"up.{self._levels - 1}.{place}" for place in range(there - wanted, there)}
        return sum(piece.flop for name, piece in self._pieces(latents) if name in kept)

    def held(self, latents: Latents) -> float:
        """Return how many values one row holds at a time, at most."""
        kept = sum(self._skipped(latents))
        return kept + max(piece.held for _, piece in self._pieces(latents))

    def square(self, latents: Latents) -> float:
        """Return how many values of all pairs of places a row holds where attention is computed in plain matrices."""
        attending = [level for level, attends in enumerate(self._attends) if attends]
        return float(latents.halved(attending[0]) ** 2) if attending else 0.0

    def _skipped(self, latents: Latents) -> Iterator[float]:
        for level, width in enumerate(self._channels):
            yield latents.halved(level) * width * (self._layers[level] + 1)

    def _pieces(self, latents: Latents) -> Iterator[tuple[str, Piece]]:
        first, told = self._channels[0], 4 * self._channels[0]
        embedding = conv(1, first, told, 1) + conv(1, told, told, 1)
        if self._added:
            embedding += conv(1, self._added, told, 1) + conv(1, told, told, 1)
        places = latents.halved(0)
        yield "ends", Piece(embedding + conv(places, self._ends[0], first) + conv(places, first, self._ends[1]))
        skips = [first]
        yield from self._down(latents, skips)
        yield from self._mid(latents)
        yield from self._up(latents, skips)

    def _down(self, latents: Latents, skips: list[int]) -> Iterator[tuple[str, Piece]]:
        wide = self._channels[0]
        for level, out in enumerate(self._channels):
            for place in range(self._layers[level]):
                yield f"down.{level}.{place}", self._layer(latents, level, (wide, out), self._attends[level])
                wide = out
                skips.append(out)
            if level < self._levels - 1:
                yield f"down.{level}.sampler", Piece(conv(latents.halved(level + 1), out, out))
                skips.append(out)

    def _mid(self, latents: Latents) -> Iterator[tuple[str, Piece]]:
        if self._middle is not None:
            level, wide = self._levels - 1, self._channels[-1]
            yield "mid", self._layer(latents, level, (wide, wide), _ATTENDING in str(self._middle))
            yield "mid", resnet(latents.halved(level), wide, wide, 4 * self._channels[0])

    def _up(self, latents: Latents, skips: list[int]) -> Iterator[tuple[str, Piece]]:
        wide = self._channels[-1]
        for block in range(self._levels):
            level = self._levels - 1 - block
            out = self._channels[level]
            for place in range(self._layers[level] + 1):
                joined = wide + skips.pop()
                yield f"up.{block}.{place}", self._layer(latents, level, (joined, out), self._attends_up[block])
                wide = out
            if level:
                yield f"up.{block}.sampler", Piece(conv(latents.halved(level - 1), out, out))

    def _layer(self, latents: Latents, level: int, channels: tuple[int, int], attends: bool) -> Piece:
        """Return a residual block and the transformer after it, if there is one."""
        places = latents.halved(level)
        first = resnet(places, *channels, 4 * self._channels[0])
        if not attends:
            return first
        then = transformer(places, channels[1], self._depths[level], (latents.tokens, self._context))
        return Piece(first.flop + then.flop, max(first.held, then.held))


class DecoderCost:
    """What an autoencoder of this configuration takes to decode; to encode is taken for as much, which is more."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._tiny = "decoder_block_out_channels" in config
        self._channels = [
            int(width) for width in config.get("decoder_block_out_channels") or config["block_out_channels"]
        ]
        self._blocks = [int(count) for count in config.get("num_decoder_blocks") or [3, 3, 3, 1]]
        self._layers = int(config.get("layers_per_block", 1)) + 1
        self._latent = int(config.get("latent_channels", 4))

    def picture(self, height: int, width: int) -> Piece:
        """Return what it takes to decode latents of this size."""
        pieces = list(self._of_tiny(height * width) if self._tiny else self._of_kl(height * width))
        return Piece(sum(piece.flop for piece in pieces), max(piece.held for piece in pieces))

    def _of_tiny(self, places: int) -> Iterator[Piece]:
        yield Piece(conv(places, self._latent, self._channels[0]))
        for level, wide in enumerate(self._channels):
            yield Piece(3 * self._blocks[level] * conv(places, wide, wide), 4.0 * places * wide)
            last = level == len(self._channels) - 1
            places *= 1 if last else 4
            yield Piece(conv(places, wide, 3 if last else wide), 2.0 * places * wide)

    def _of_kl(self, places: int) -> Iterator[Piece]:
        wide = self._channels[-1]
        yield Piece(conv(places, self._latent, wide) + conv(places, self._latent, self._latent, 1))
        yield resnet(places, wide, wide)
        yield Piece(conv(places, wide, 4 * wide, 1) + 4.0 * places * places * wide, 6.0 * places * wide)
        yield resnet(places, wide, wide)
        for level, out in enumerate(reversed(self._channels)):
            for _ in range(self._layers):
                yield resnet(places, wide, out)
                wide = out
            if level < len(self._channels) - 1:
                places *= 4
                yield Piece(conv(places, out, out), 2.0 * places * out)
        yield Piece(conv(places, wide, 3))


@dataclass(frozen=True, eq=False)
class ModelCost:
    """What the parts of one model take."""

    unet: UnetCost
    decoder: DecoderCost
    texts: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, found: Configs) -> ModelCost:
        """Return what a model of these configurations takes.

        Raises:
            BadModel: The configurations do not describe a network of the two architectures.
        """
        try:
            made = cls(UnetCost(found.unet), DecoderCost(found.vae), list(found.texts.values()))
            _probe = made.unet.row(Latents(8, 8, made.chunk)), made.decoder.picture(8, 8), made.text
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadModel(f"the model's configurations do not fit each other: {error!r}") from error
        return made

    @property
    def chunk(self) -> int:
        """Return how many tokens the text encoders read at once, the two marks included."""
        return max(int(config.get("max_position_embeddings", 77)) for config in self.texts)

    @cached_property
    def text(self) -> float:
        """Return the FLOP of reading one chunk of text with all encoders."""
        return sum(_encoder(config, self.chunk) for config in self.texts)


def _encoder(config: Mapping[str, Any], tokens: int) -> float:
    wide, inner = int(config.get("hidden_size", 768)), int(config.get("intermediate_size", 3072))
    layer = conv(tokens, wide, 4 * wide, 1) + 2 * conv(tokens, wide, inner, 1) + 4.0 * tokens * tokens * wide
    return int(config.get("num_hidden_layers", 12)) * layer


def _by_level(stated: Any, levels: int) -> list[int]:
    """Return a number for each level, of one for all or a list of them; of lists by layer, their largest."""
    found = [stated] * levels if isinstance(stated, int) else [_largest(one) for one in stated]
    if len(found) != levels or not all(0 <= one <= _MOST for one in found):
        raise ValueError(f"{levels} blocks have {found} layers")
    return found


def _largest(stated: Any) -> int:
    return stated if isinstance(stated, int) else max(stated)
