"""The column types of our own tables: what is read back equals what was written, in value and in type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from tests.sqlalchemy.conftest import Place
from tests.support.whaticket import DATABASES
from ticketrouter.checks import MAX_ID_LENGTH, MAX_MESSAGE_ID_LENGTH, Id, check_id
from ticketrouter.sqlalchemy.types import IdText, MessageDigest, UtcDateTime, decode_id, encode_id

every_database = pytest.mark.parametrize("database", DATABASES)

_ints = st.integers(-(2**63), 2**63 - 1)
# What an id may not have, `check_id` says; what looks like an id of another type, or like our mark, is likelier here.
_words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
_looks = st.one_of(
    _ints.map(str), st.uuids().map(str), st.sampled_from(["+1", "01", "-0", "1 ", "\u0661", "1_0"])
)
_marked = st.builds(
    lambda times, text: "text:" * times + text, st.integers(1, 3), _looks | _words | st.just("")
)
IDS: st.SearchStrategy[Id] = st.one_of(_ints, st.uuids(), _words, _looks, _marked)
# Away from the ends, so that every zone can express it.
_first, _last = datetime.fromisoformat("1000-01-02"), datetime.fromisoformat("9999-12-30")
_instants = st.datetimes(_first, _last, timezones=st.timezones())


class TestIdText:
    """Law: an id of any type goes through a text column and comes back itself."""

    @given(IDS)
    @example("text:")
    @example("text:text:1")
    @example(str(2**63))
    @example("x" * MAX_ID_LENGTH)
    @example("\U0001f600" * MAX_ID_LENGTH)
    def test_what_is_decoded_is_what_was_encoded(self, value: Id) -> None:
        """decode(encode(x)) is x, in value and in type."""
        check_id("id", value)

        found = decode_id(encode_id(value))

        assert (type(value), value) == (type(found), found)

    @given(IDS, IDS)
    @example(10, "10")
    @example("text:10", "10")
    @example("text:text:10", "text:10")
    @example(UUID(int=1), str(UUID(int=1)))
    @example("A", "a")
    def test_two_ids_have_two_texts(self, one: Id, other: Id) -> None:
        """Encode is injective: what differs in value or type differs as text."""
        same = type(one) is type(other) and one == other

        assert same is (encode_id(one) == encode_id(other))

    @given(IDS)
    @example("text:" * 50)
    @example("text:" * 40 + "9" * 19)
    @example("text:" * 48 + "9" * 10)
    def test_every_valid_id_fits_the_column(self, value: Id) -> None:
        """The longest id, marked, has at most the 255 characters of the column."""
        check_id("id", value)

        assert len(encode_id(value)) <= 255

    @every_database
    def test_a_database_tells_ids_apart_as_python_does(self, place: Place) -> None:
        """Case, accents, trailing space, emoji and type count in the database too."""
        ids: list[Id] = [
            "a",
            "A",
            "\u00e1",
            "a ",
            " a",
            "\U0001f600",
            "\U0001f601",
            1,
            "1",
            UUID(int=1),
            str(UUID(int=1)),
        ]
        table = Table("ids", MetaData(), Column("id", IdText, primary_key=True))
        with place.begin() as connection:
            table.create(connection)
            connection.execute(table.insert(), [{"id": each} for each in ids])
            found = [
                connection.execute(select(table).where(table.c.id == each)).scalars().all() for each in ids
            ]

        assert [[(type(each), each)] for each in ids] == [[(type(x), x) for x in each] for each in found]


INSTANTS = (
    datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
    datetime(2026, 11, 23, 12, 0, 0, 1, tzinfo=UTC),
    datetime(2026, 11, 23, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-3))),
    datetime(1969, 7, 20, 20, 17, 40, 5, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(9999, 1, 1, tzinfo=UTC),
    datetime(2026, 2, 15, 2, 30, tzinfo=timezone(timedelta(hours=-2))),
)


class TestUtcDateTime:
    """Law: an instant goes through the database and comes back itself, in UTC."""

    @every_database
    def test_an_instant_comes_back_in_utc(self, place: Place) -> None:
        """Microseconds stay, the zone becomes UTC, and NULL stays NULL."""
        table = Table("times", MetaData(), Column("id", Integer, primary_key=True), Column("at", UtcDateTime))
        with place.begin() as connection:
            table.create(connection)
            for number, instant in enumerate((*INSTANTS, None), 1):
                connection.execute(table.insert().values(id=number, at=instant))
            found = connection.execute(select(table.c.at).order_by(table.c.id)).scalars().all()
            earliest = connection.execute(
                select(table.c.at).order_by(table.c.at).limit(1).where(table.c.at.is_not(None))
            )

            assert min(INSTANTS) == earliest.scalar_one()
        assert [*INSTANTS, None] == found
        assert all(each is None or each.tzinfo is UTC for each in found)

    @given(_instants)
    def test_the_instant_survives_on_every_dialect(self, instant: datetime) -> None:
        """Whatever the zone, the instant is the same after both conversions."""
        column = UtcDateTime()
        for dialect in (postgresql.dialect(), mysql.dialect(), sqlite.dialect()):  # type: ignore[no-untyped-call]
            found = column.process_result_value(column.process_bind_param(instant, dialect), dialect)

            assert found is not None
            assert (instant.astimezone(UTC), UTC) == (found, found.tzinfo)


class TestMessageDigest:
    """Law: two message ids share a digest only if they are the same id."""

    @given(IDS, IDS)
    @example("m", "M")
    @example(1, "1")
    @example("x" * MAX_MESSAGE_ID_LENGTH, "x" * (MAX_MESSAGE_ID_LENGTH - 1))
    def test_two_message_ids_have_two_digests_of_32_bytes(self, one: Id, other: Id) -> None:
        """Length, case and type count, and the digest always fits the column."""
        column, dialect = MessageDigest(), sqlite.dialect()
        first, second = (column.process_bind_param(each, dialect) for each in (one, other))
        same = type(one) is type(other) and one == other

        assert first is not None
        assert 32 == len(first)
        assert same is (first == second)
