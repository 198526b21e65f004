"""Which tests are in the default run; and, for whatever process runs tests, the models that many of them share."""

from __future__ import annotations

import os
from collections import defaultdict

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Import models, and torch with them, where tests run: not in the process that deals them to others."""
    if not config.getoption("numprocesses", None) or "PYTEST_XDIST_WORKER" in os.environ:
        config.pluginmanager.import_plugin("tests.engines")


@pytest.hookimpl(tryfirst=True)  # before those that are left out are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all but some cases of a sampled test as thorough; which they are depends on their names alone."""
    cases = defaultdict[tuple[str, int], list[pytest.Item]](list)
    for item in items:
        if mark := item.get_closest_marker("sampled"):
            cases[item.nodeid.partition("[")[0], mark.args[0]].append(item)
    for (_, count), found in cases.items():
        found.sort(key=lambda item: item.nodeid)
        kept = {number * len(found) // count for number in range(count)}
        for number, item in enumerate(found):
            if number not in kept:
                item.add_marker(pytest.mark.thorough)
