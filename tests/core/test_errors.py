"""The errors: what each carries, says, and promises about a second try."""

from __future__ import annotations

import copy
import pickle

import pytest

import ticketrouter
from tests.support.samples import a_ticket
from ticketrouter import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    ContentionError,
    InvalidMessageError,
    NoTicketError,
    RepositoryError,
    TicketNotFoundError,
    TicketRouterError,
    UniqueRule,
)

ERRORS = {
    "invalid-message": InvalidMessageError("contact_id", True, "an id"),
    "no-ticket": NoTicketError("no ticket"),
    "not-found": TicketNotFoundError("no ticket 7"),
    "active-exists": ActiveTicketExistsError(a_ticket(connection_id=200)),
    "blocked": BlockedBySchemaError(a_ticket(connection_id=200), UniqueRule.ONE_PER_CONTACT),
    "conflict": ConflictError("taken"),
    "conflict-overtaken": ConflictError("taken", a_ticket()),
    "contention": ContentionError("gave up"),
    "repository": RepositoryError("refused"),
    "repository-retryable": RepositoryError("lost", retryable=True),
}
RETRYABLE = {"conflict", "contention", "repository-retryable"}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_says_whether_to_try_again(name):
    """`retryable` is True exactly where the same unit of work may succeed a second time."""
    expected = name in RETRYABLE

    assert expected is ERRORS[name].retryable


def test_an_error_is_not_retryable_unless_it_says_so():
    """The base class promises nothing, and an error of the store nothing by itself."""
    assert TicketRouterError().retryable is False
    assert RepositoryError("refused").retryable is False
    assert RepositoryError("lost", retryable=True).retryable is True


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize(
    "copied",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_an_error_survives_copying_with_all_it_carries(name, copied):
    """A worker process may send an error home."""
    error = ERRORS[name]

    actual = copied(error)

    assert (type(error), str(error), error.args, vars(error)) == (
        type(actual),
        str(actual),
        actual.args,
        vars(actual),
    )


def test_one_base_class_catches_every_error():
    """Every public error is a TicketRouterError."""
    public = {getattr(ticketrouter, name) for name in ticketrouter.__all__ if name.endswith("Error")}

    strangers = {error for error in public if not issubclass(error, TicketRouterError)}

    assert set() == strangers
    assert {type(error) for error in ERRORS.values()} | {TicketRouterError} == public


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(InvalidMessageError, ValueError), (NoTicketError, LookupError), (TicketNotFoundError, LookupError)],
    ids=lambda value: value.__name__,
)
def test_an_error_is_also_the_builtin_that_callers_expect(error, builtin):
    """Callers that know nothing of us catch what they always catch."""
    assert issubclass(error, builtin)


def test_an_invalid_message_names_field_value_and_expectation():
    """The caller learns what was wrong without parsing the text."""
    error = InvalidMessageError("contact_id", True, "an id")

    assert (error.field, error.value, error.expected) == ("contact_id", True, "an id")
    assert str(error) == "contact_id must be an id, not True"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("x" * 100, "'xxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxx'", id="text"),
        pytest.param(10**100, f"{'1' + 27 * '0'}...{29 * '0'}", id="int"),
        pytest.param(10**5000, "an int of 16610 bits", id="int that Python does not print"),
        pytest.param("\ud800", r"'\ud800'", id="lone surrogate"),
    ],
)
def test_an_error_shows_a_long_value_shortened(value, shown):
    """The text of an error stays a line, whatever was given."""
    expected = f"field must be valid, not {shown}"

    assert expected == str(InvalidMessageError("field", value, "valid"))


CANARY = "5511987654321"


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("contact_id", CANARY * 20, "this str of 260 characters"),
        ("group_id", f"{CANARY}\0", "this str of 14 characters"),
        ("message_id", CANARY.encode(), "this bytes"),
        ("contact_id", float(CANARY), "this float"),
        ("source_id", int(CANARY) ** 9, "this int"),
        ("message", {"contact_id": CANARY}, "this dict"),
        ("key", (1, CANARY, 10), "this tuple"),
        ("contact_id", None, "None"),
        ("contact_id", True, "True"),
    ],
)
def test_a_refused_contact_is_described_and_not_told(field, value, shown):
    """What may be a telephone number stands in the error's value, for the caller, and in no text of it."""
    error = InvalidMessageError(field, value, "valid")

    assert f"{field} must be valid, not {shown}" == str(error)
    assert value is error.value
    assert CANARY not in repr(error) + str(error)


@pytest.mark.parametrize("name", ERRORS)
def test_the_representation_of_an_error_is_its_text(name):
    """What a logging handler or a tracker makes of an error holds no ticket, and so no contact."""
    error = ERRORS[name]

    assert f"{type(error).__name__}({str(error)!r})" == repr(error)
    assert "contact_id=" not in repr(error)


def test_an_int_of_a_thousand_bits_is_still_shown():
    """Only what Python may refuse to print is described."""
    assert "..." in str(InvalidMessageError("field", 2**1000 - 1, "valid"))
    assert str(InvalidMessageError("field", 2**1000, "valid")).endswith("an int of 1001 bits")


def test_an_active_ticket_has_the_code_of_the_whaticket_line():
    """A front end of the Whaticket line knows the error by its code."""
    error = ActiveTicketExistsError(a_ticket(connection_id=200))

    assert error.code == "ERR_OTHER_OPEN_TICKET"
    assert a_ticket(connection_id=200) == error.ticket
    assert str(error) == "ticket 7 is already active on connection 200"


def test_a_blocked_message_names_the_row_the_rule_and_the_cure():
    """An operator reads what to change in the schema."""
    error = BlockedBySchemaError(a_ticket(connection_id=200), UniqueRule.ONE_PER_CONTACT)

    assert (a_ticket(connection_id=200), UniqueRule.ONE_PER_CONTACT) == (error.ticket, error.unique_rule)
    assert str(error) == (
        "the unique rule one_per_contact of the tickets table leaves no room beside ticket 7 of status 'open' on "
        "connection 200: replace it by one unique rule on company, contact and connection over active tickets "
        "only, or name that status in the StatusScheme if it is active"
    )


def test_a_row_in_the_way_that_is_not_ours_to_see_is_not_named():
    """Of another company's ticket the operator reads no more than that it is there."""
    error = BlockedBySchemaError(None, UniqueRule.ACTIVE_PER_CONNECTION)

    assert (None, False) == (error.ticket, error.retryable)
    assert str(error) == (
        "the unique rule active_per_connection of the tickets table leaves no room beside a row that is not this "
        "company's to see (another company's, or one without contact or connection): replace it by one unique rule "
        "on company, contact and connection over active tickets only"
    )


def test_a_conflict_after_a_fresh_look_carries_the_ticket():
    """Whoever was overtaken sees by what."""
    assert a_ticket() == ConflictError("taken", a_ticket()).ticket
    assert ConflictError("taken").ticket is None
    assert str(ConflictError("taken", a_ticket())) == "taken"
