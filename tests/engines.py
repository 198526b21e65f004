"""Session-wide: two minute models as folders and loaded, five adapters for each, engines that use them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines import specs
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from tests import checkpoints, models, shared_models
from tests.adapters import Shelf, five

torch.set_num_threads(1)

SHARED = ("sd15", "small", "xl")


@pytest.fixture(autouse=True)
def shared_models_stay_as_they_are(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a shared model, or torch's settings, other than it found them."""
    used = [name for name in SHARED if name in request.fixturenames]
    with shared_models.unchanged({name: request.getfixturevalue(name) for name in used}):
        yield


def shared(folder: Path) -> Iterator[LoadedModel]:
    """Load a model for all tests; when they are over, every weight must be what it was."""
    model = LoadedModel.load(specs.find(str(folder)), torch.device("cpu"))
    digest = model.parameter_digest()
    yield model
    assert model.parameter_digest() == digest, f"a test wrote into the weights of {folder.name}"


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of SD1.5's true structure, at reduced width."""
    return models.build(models.SD15, tmp_path_factory.mktemp("models") / "sd15")


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two blocks, v-prediction and a tiny autoencoder."""
    return models.build(models.SMALL, tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of SDXL's true structure, at reduced width."""
    return checkpoints.save_folder(checkpoints.seeded(checkpoints.XL), tmp_path_factory.mktemp("models") / "xl")


@pytest.fixture(scope="session")
def xl(xl_folder: Path) -> Iterator[LoadedModel]:
    yield from shared(xl_folder)


@pytest.fixture(scope="session")
def sd15(sd15_folder: Path) -> Iterator[LoadedModel]:
    yield from shared(sd15_folder)


@pytest.fixture(scope="session")
def small(small_folder: Path) -> Iterator[LoadedModel]:
    yield from shared(small_folder)


@pytest.fixture(scope="session")
def sd15_engine(sd15: LoadedModel) -> Engine:
    return Engine(Shelf(five(sd15.layout)), load=lambda spec: sd15)


@pytest.fixture(scope="session")
def engine(small: LoadedModel) -> Engine:
    return Engine(Shelf(five(small.layout)), load=lambda spec: small)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what renderings leave for later ones out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLEY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Leave out remarks of libraries about each other."""
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")
    config.addinivalue_line("filterwarnings", "ignore:Already found a `peft_config`:UserWarning")
