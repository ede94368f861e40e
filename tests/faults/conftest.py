"""A database of each kind with our own tables, and an engine beside the ones under fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import frozen
from sqlalchemy import URL, Engine

from tests.support.backends import Databases
from tests.support.faults.work import MAPPING, engine_for, warm_up
from tests.support.races import set_rule
from ticketrouter import UniqueRule


@frozen
class Place:
    """A database under fault: its address, and an engine that no fault meets."""

    url: URL
    engine: Engine

    @property
    def address(self) -> str:
        return self.url.render_as_string(hide_password=False)

    def new_engine(self, **options: object) -> Engine:
        engine = engine_for(self.url, **options)
        warm_up(engine)
        return engine


@pytest.fixture(scope="session")
def places(databases: Databases) -> Iterator[dict[tuple[str, UniqueRule], Place]]:
    """The databases that have been made."""
    made: dict[tuple[str, UniqueRule], Place] = {}
    yield made
    for place in made.values():
        place.engine.dispose()
        databases.drop(place.url)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def place(
    database: str,
    rule: UniqueRule,
    databases: Databases,
    places: dict[tuple[str, UniqueRule], Place],
) -> Place:
    """A database of this kind whose tickets have this unique rule."""
    if (database, rule) not in places:
        url = databases.new(database)
        engine = engine_for(url)
        MAPPING.metadata.create_all(engine)
        with engine.begin() as connection:
            set_rule(connection, MAPPING, rule)
        places[database, rule] = Place(url, engine)
    return places[database, rule]
