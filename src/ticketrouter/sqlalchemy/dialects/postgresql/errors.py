"""What the error codes of PostgreSQL mean, by SQLSTATE.

Law of this file: data, one row a code, and where the drivers tell a code and the names in an error.
"""

from __future__ import annotations

from typing import Any

from ticketrouter.sqlalchemy.error_codes import Code, ErrorCodes, Errors, Fault, Left, Named, Row, rows_of

STALE_PLAN = "RevalidateCachedQuery"
"""The function of PostgreSQL's source that refuses a stale plan: drivers tell it, in no language."""

CODES = ErrorCodes(
    "PostgreSQL",
    (
        *rows_of(
            Fault.TAKEN,
            Left.MUST_ROLL_BACK,
            (
                "23505",
                "unique_violation",
                "the row is there already; where a race explains it, we look again",
            ),
        ),
        *rows_of(
            Fault.RESTART,
            Left.MUST_ROLL_BACK,
            ("40", "transaction rollback", "the server gave this transaction up for another one"),
            (
                "40001",
                "serialization_failure",
                "a row was changed under your snapshot, at COMMIT too; or a standby replayed a change",
            ),
            ("40P01", "deadlock_detected", "you were chosen as the victim, at COMMIT by a deferred trigger"),
            ("55P03", "lock_not_available", "`lock_timeout` or NOWAIT: whoever has the lock lets go of it"),
            ("72000", "snapshot_too_old", "`old_snapshot_threshold`: a new transaction has a new snapshot"),
        ),
        *rows_of(
            Fault.UNAVAILABLE,
            Left.MUST_ROLL_BACK,
            (
                f"0A000 {STALE_PLAN}",
                "cached plan must not change result type",
                "a migration changed a table under a prepared statement; the driver forgets it at the rollback",
            ),
            ("53200", "out_of_memory", "memory, or room for locks, that others give back"),
            (
                "57014",
                "query_canceled",
                "`statement_timeout`: mostly a lock or a busy server; or somebody cancelled this one statement",
            ),
        ),
        *rows_of(
            Fault.UNAVAILABLE,
            Left.NONE_BEGUN,
            ("53300", "too_many_connections", "of the server, the role or the database: one becomes free"),
            ("57P03", "cannot_connect_now", "the server is starting, stopping or recovering"),
        ),
        *rows_of(
            Fault.LOST,
            Left.GONE,
            (
                "08",
                "connection exception",
                "no connection, or no more; of a lost COMMIT only a recorded message id tells",
            ),
            (
                "08P01",
                "protocol_violation",
                "also all that PgBouncer says: no server, no room, a limit reached",
            ),
            (
                "25P03",
                "idle_in_transaction_session_timeout",
                "your code took too long between two statements",
            ),
            ("25P04", "transaction_timeout", "`transaction_timeout`: mostly locks or a busy server"),
            (
                "40003",
                "statement_completion_unknown",
                "the connection broke; only a recorded message id tells",
            ),
            ("57P01", "admin_shutdown", "the server stops, or somebody ended this connection"),
            ("57P02", "crash_shutdown", "another process of the server crashed"),
            ("57P05", "idle_session_timeout", "the connection was unused for too long"),
        ),
        *rows_of(
            Fault.AFTERMATH,
            Left.MUST_ROLL_BACK,
            (
                "25P02",
                "in_failed_sql_transaction",
                "an earlier error was swallowed: what that one says counts",
            ),
            (
                "3B001",
                "invalid_savepoint_specification",
                "the savepoint went with what an earlier error ended",
            ),
        ),
        *rows_of(
            Fault.OTHER,
            Left.MUST_ROLL_BACK,
            ("09", "triggered action exception", "a trigger of yours"),
            ("0A", "feature not supported", "the same statement is refused again"),
            ("21", "cardinality violation", "the same statement is refused again"),
            ("22", "data exception", "the same value is refused again"),
            ("23", "integrity constraint violation", "the same row is refused again; at COMMIT if deferred"),
            ("23502", "not_null_violation", "give the column a value by `on_create`, or a default"),
            (
                "23503",
                "foreign_key_violation",
                "what the row points at is missing: insert it before the ticket",
            ),
            ("23514", "check_violation", "the constraint refuses what the row says"),
            ("23P01", "exclusion_violation", "an EXCLUDE constraint is no unique rule of ours"),
            ("25", "invalid transaction state", "the transaction was begun for something else"),
            (
                "25006",
                "read_only_sql_transaction",
                "a READ ONLY transaction, or a connection to a standby: say `target_session_attrs=read-write` in the URL",
            ),
            (
                "26000",
                "invalid_sql_statement_name",
                "prepared statements behind a pooler: turn them off in the driver",
            ),
            ("27000", "triggered_data_change_violation", "a BEFORE trigger of yours changed the row itself"),
            ("28", "invalid authorization", "user, password or pg_hba.conf"),
            ("2D", "invalid transaction termination", "a function of yours ended the transaction"),
            ("34", "invalid cursor name", "a pooler between you and a cursor of the server"),
            ("3D", "invalid catalog name", "there is no such database"),
            ("3F", "invalid schema name", "there is no such schema"),
            (
                "40002",
                "transaction_integrity_constraint_violation",
                "a constraint refuses at COMMIT what it will refuse again",
            ),
            ("42", "syntax error or access rule violation", "the table is not what the mapping says"),
            ("42501", "insufficient_privilege", "a GRANT is missing, or row security refuses the row"),
            ("42703", "undefined_column", "the column went, or the migration is still to come"),
            ("42P01", "undefined_table", "the table went, or the migration is still to come"),
            ("42P05", "duplicate_prepared_statement", "as 26000"),
            ("42P10", "invalid_column_reference", "the unique index that we name has gone"),
            ("44", "with check option violation", "the view refuses the row"),
            ("53", "insufficient resources", "the limit stays as it is"),
            ("53100", "disk_full", "somebody must make room"),
            ("53400", "configuration_limit_exceeded", "the limit stays as it is"),
            ("54", "program limit exceeded", "the same statement is too large again"),
            ("55", "object not in prerequisite state", "it must be brought into that state"),
            ("57", "operator intervention", "an operator wanted it so"),
            ("58", "system error", "the disk or the system is broken"),
            ("F0", "configuration file error", "the file must be repaired"),
            ("HV", "foreign data wrapper error", "a foreign table is no place for tickets"),
            ("P0", "PL/pgSQL error", "a trigger of yours refuses the row"),
            ("XX", "internal error", "the server is broken, or its data"),
        ),
        *rows_of(
            Fault.OTHER,
            Left.GONE,
            ("57P04", "database_dropped", "there is no such database any more"),
        ),
    ),
    Row("other", "any other", Fault.OTHER, Left.MUST_ROLL_BACK, "nothing is known of it"),
)


def _find(error: BaseException, code: Code) -> Row | None:
    if not isinstance(code, str):
        return None
    return CODES.row(f"{code} {_routine(error)}", code, code[:2])


def _routine(error: Any) -> str | None:
    """Return the function of PostgreSQL's source that raised an error: psycopg and asyncpg tell it."""
    diagnostics = getattr(error, "diag", None)
    name: str | None = getattr(diagnostics, "source_function", None)
    # What wraps asyncpg's error may leave it out.
    told = (getattr(each, "server_source_function", None) for each in (error, error.__cause__))
    return name or next((each for each in told if each is not None), None)


def _told(error: Any) -> Any:
    return getattr(error, "diag", None) or getattr(error, "__cause__", None) or error


def _names(error: Any) -> Named:
    """Return what the drivers give by themselves."""
    found = ((what, getattr(_told(error), f"{what}_name", None)) for what in ("constraint", "column"))
    return [(what, name) for what, name in found if name]


def _refused_by(error: Any) -> tuple[str | None, str | None]:
    told = _told(error)
    return getattr(told, "table_name", None), getattr(told, "constraint_name", None)


ERRORS = Errors(
    CODES,
    _find,
    _names,
    lambda error: _refused_by(error)[1],
    frozenset({"asyncpg", "psycopg", "psycopg2"}),
    # ON CONFLICT names an index that is not there.
    rule_gone=frozenset({"42P10"}),
    # A table, a column, a cached plan that does not fit any more.
    changed=frozenset({"42P01", "42703", "0A000"}),
    refused_by=_refused_by,
)
