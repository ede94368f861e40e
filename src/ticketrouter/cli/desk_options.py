"""The options that say which tickets a command is about: the same for every command that asks for them.

Law of this file: an option is declared once, and what was typed becomes a value; nothing is looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta, tzinfo
from functools import wraps
from typing import Any
from zoneinfo import ZoneInfo

import click
from attrs import fields
from click.core import ParameterSource

from ticketrouter import presets
from ticketrouter.checks import Id
from ticketrouter.cli.desk import WHATICKET, Desk, Stored, Words
from ticketrouter.cli.imported import EXAMPLE, OPTION, imported
from ticketrouter.cli.tables import Tables
from ticketrouter.sqlalchemy.columns import FIELDS

_EPOCHS = {
    "seconds": timedelta(seconds=1),
    "milliseconds": timedelta(milliseconds=1),
    "microseconds": timedelta(microseconds=1),
}
_MAY_BE_NONE = frozenset(FIELDS) - {"id", "contact_id", "status"}
_OF_NONE = ("user_id", "queue_id", "closed_at")


def _pairs(given: tuple[str, ...], expected: str, *, empty: bool = False) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if not all(name and equals and (value or empty) for name, equals, value in pairs):
        raise click.BadParameter(f"say {expected}")
    found: dict[str, str] = {}
    for name, _, value in pairs:
        if found.setdefault(name, value) != value:
            raise click.BadParameter(f"say of {name} one thing: it is {found[name]!r} or {value!r}")
    return found


def _columns(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str | None]:
    expected = f"FIELD=NAME, where FIELD is one of {', '.join(FIELDS)}"
    found = _pairs(given, expected, empty=True)
    for field, name in found.items():
        if field not in FIELDS:
            raise click.BadParameter(f"say {expected}")
        if not name and field not in _MAY_BE_NONE:
            raise click.BadParameter(f"say which column has {field}; a table without one needs {OPTION}")
    return {field: name or None for field, name in found.items()}


def _wakes(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    return _pairs(given, "WORD=WORD, as snoozed=open")


def _status_values(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    return _pairs(given, "WORD=VALUE, as open=0")


def _absent(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    expected = f"FIELD=VALUE, as user_id=0, where FIELD is one of {', '.join(_OF_NONE)}"
    found = _pairs(given, expected, empty=True)
    if not found.keys() <= set(_OF_NONE):
        raise click.BadParameter(f"say {expected}")
    return found


def _on_create(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    return _pairs(given, "COLUMN=VALUE, as source=webhook", empty=True)


def _where(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    return _pairs(given, "COLUMN=VALUE, as source=sms, or COLUMN= for NULL", empty=True)


def _id(_: click.Context, __: click.Parameter, given: str | None) -> Id | None:
    if given == "":
        raise click.BadParameter("say which it is")
    # As the lines of a stream have it: a number is one, whatever else is a text.
    return int(given) if given is not None and given.isascii() and given.isdecimal() else given


def _timezone(_: click.Context, __: click.Parameter, given: str | None) -> tzinfo | None:
    try:
        return None if given is None else ZoneInfo(given)
    except (ValueError, OSError, LookupError):
        raise click.BadParameter(
            "there is no such time zone; they are named as America/Sao_Paulo is"
        ) from None


def _epoch(_: click.Context, __: click.Parameter, given: str | None) -> timedelta | None:
    return None if given is None else _EPOCHS[given]


_MAPPING = click.option(
    OPTION,
    metavar="MODULE:NAME",
    help=(
        f"Your own TicketMapping, as {EXAMPLE}, instead of the options below; the current directory is looked in. It "
        "can say what they cannot: any condition on the rows (where), columns of every message (on_message), a table "
        "without a status (status=None), values and keys that a function makes (on_create, new_id)."
    ),
)
_WORDS = (
    click.option(
        "--active",
        multiple=True,
        metavar="WORD",
        help="A status that is active besides the preset's; may be given again.",
    ),
    click.option(
        "--also-closed",
        multiple=True,
        metavar="WORD",
        help="A further status of closed tickets that a message may reopen; may be given again.",
    ),
    click.option(
        "--final",
        multiple=True,
        metavar="WORD",
        help="A status of closed tickets that no message reopens, as spam; may be given again.",
    ),
    click.option(
        "--wakes",
        multiple=True,
        metavar="WORD=WORD",
        callback=_wakes,
        help="An active status, and the one that the next message gives such a ticket; may be given again.",
    ),
)
_STORED = (
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="FIELD=NAME",
        callback=_columns,
        help="The column of a field, if it is not called as the field is; without a NAME there is none; may be given again.",
    ),
    click.option(
        "--status-value",
        "status_values",
        multiple=True,
        metavar="WORD=VALUE",
        callback=_status_values,
        help="What the column stores for a status, where that is not the word: say it of each; may be given again.",
    ),
    click.option(
        "--absent",
        multiple=True,
        metavar="FIELD=VALUE",
        callback=_absent,
        help="What a column that is never NULL stores for no agent, queue or time of closing; may be given again.",
    ),
    click.option(
        "--on-create",
        multiple=True,
        metavar="COLUMN=VALUE",
        callback=_on_create,
        help="What a new row has in a further column; may be given again.",
    ),
    click.option(
        "--uuid",
        multiple=True,
        metavar="COLUMN",
        help="A column in which a new row has a random UUID, as its key; may be given again.",
    ),
    click.option(
        "--where",
        multiple=True,
        metavar="COLUMN=VALUE",
        callback=_where,
        help=(
            "What the rows of the desk have there, as deleted_at= for NULL: all others are left alone, and a new row has "
            "it; may be given again."
        ),
    ),
    click.option(
        "--only-company",
        metavar="ID",
        callback=_id,
        help="The company of every row, where there is no column for it.  [default: 1 in the Whaticket line]",
    ),
    click.option(
        "--only-connection",
        metavar="ID",
        callback=_id,
        help="The connection of every row, where there is no column for it.",
    ),
    click.option(
        "--timezone",
        metavar="ZONE",
        callback=_timezone,
        help="Of times that keep no zone, as America/Sao_Paulo.  [default: UTC]",
    ),
    click.option(
        "--epoch",
        type=click.Choice(list(_EPOCHS)),
        callback=_epoch,
        help="What times count that are whole numbers.  [default: seconds; the Whaticket line's are milliseconds]",
    ),
)
_OF_A_DESK = (
    click.option(
        "--preset",
        type=click.Choice([*presets.ALL, WHATICKET]),
        default="default",
        show_default=True,
        metavar="NAME",
        help=(
            f"Whose tables, words and (where there is --policy) rules they are: {WHATICKET} for the Whaticket line, or "
            "a name from `ticketrouter presets`."
        ),
    ),
    click.option("--table", metavar="NAME", help="The tickets table, if it is not called as usual."),
    *_WORDS,
    *_STORED,
    click.option(
        "--with-deleted",
        is_flag=True,
        help="Rows that a column such as deleted_at tells are deleted count like the others.",
    ),
    click.option(
        "--ignore-message-ids",
        is_flag=True,
        help="Message ids are not remembered: a redelivery is counted again, and there is no table of them.",
    ),
)


def _destination(option: Callable[..., Any]) -> click.Parameter:
    """Return the parameter that an option adds."""
    added: list[click.Parameter] = option(lambda: None).__click_params__
    return added[0]


_DECLARED = {
    str(parameter.name): parameter.opts[0] for parameter in map(_destination, (_MAPPING, *_OF_A_DESK))
}
"""Each of these options, by the name that a command is given it."""


def desk_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which tickets it is about: they arrive together, as Tables named `tables`.

    Where the command has `--policy`, and no `--preset` is said, the words are the policy's; where a known desk's
    preset is said, and no `--policy`, its rules decide.
    """

    @wraps(command)
    def with_tables(**given: Any) -> None:
        context = click.get_current_context()
        of_desk = {name: given.pop(name) for name in _DECLARED}
        said = [
            name for name in _DECLARED if context.get_parameter_source(name) is not ParameterSource.DEFAULT
        ]
        tables = _tables(of_desk, said, given.get("policy"))
        decides_too = "preset" in said and of_desk["preset"] in presets.ALL
        if decides_too and context.get_parameter_source("policy") is ParameterSource.DEFAULT:
            given["policy"] = of_desk["preset"]
        command(tables=tables, **given)

    for option in reversed((_MAPPING, *_OF_A_DESK)):
        with_tables = option(with_tables)
    return with_tables


def _tables(given: Mapping[str, Any], said: list[str], policy: str | None) -> Tables:
    mapping = given["mapping"]
    if mapping is not None:
        others = [_DECLARED[name] for name in said if name != "mapping"]
        if others:
            raise click.UsageError(
                f"{OPTION} and {others[0]} exclude each other: the mapping says its table, columns and words itself."
            )
        return imported(mapping)
    words_of = policy if policy is not None and "preset" not in said else given["preset"]
    return Desk(
        given["preset"],
        Words(words_of, *(given[name] for name in ("active", "also_closed", "final", "wakes"))),
        given["table"],
        Stored(**{each.name: given[each.name] for each in fields(Stored)}),
        with_deleted=given["with_deleted"],
        remember_messages=not given["ignore_message_ids"],
    )
