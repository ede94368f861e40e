"""What the tests of the command line share: one window for all the pages that are looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import Browser, browser


@pytest.fixture(scope="package")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened
