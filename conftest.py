"""What the project's own tests and those of the examples share: the servers, started once for a test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends import Databases


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """The servers and databases of this test process."""
    databases = Databases(tmp_path_factory.mktemp("databases"))
    yield databases
    databases.close()
