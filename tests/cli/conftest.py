"""What the tests of the command line share: one window for all the pages that are looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser, browser


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whoever looks at a page."""
    for item in items:
        if isinstance(item, pytest.Function) and "window" in item.fixturenames:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened
