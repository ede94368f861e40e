"""What the error codes of MariaDB mean, by number, and those of MySQL, as their drivers do not tell them apart.

Law of this file: data, one row a code, and at which places of a text a name stands, where no value can stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ticketrouter.sqlalchemy.error_codes import Code, ErrorCodes, Errors, Fault, Left, Named, Row, rows_of

_INNODB = (
    *rows_of(
        Fault.TAKEN,
        Left.GOES_ON,
        (1062, "ER_DUP_ENTRY", "the row is there already; where a race explains it, we look again"),
        (1586, "ER_DUP_ENTRY_WITH_KEY_NAME", "as 1062"),
    ),
    *rows_of(
        Fault.RESTART,
        Left.GOES_ON,
        (
            1205,
            "ER_LOCK_WAIT_TIMEOUT",
            "whoever has the lock lets go of it; with `innodb_rollback_on_timeout` all is rolled back already",
        ),
        (1689, "ER_LOCK_ABORTED", "a change of the table went first"),
    ),
    *rows_of(
        Fault.RESTART,
        Left.ROLLED_BACK,
        (1020, "ER_CHECKREAD", "a row was changed under your snapshot"),
        (1180, "ER_ERROR_DURING_COMMIT", "the cluster refused the COMMIT: a rival, or no quorum"),
        (1181, "ER_ERROR_DURING_ROLLBACK", "the same at a ROLLBACK: nothing of it stays"),
        (1206, "ER_LOCK_TABLE_FULL", "room for locks that others give back"),
        (
            1213,
            "ER_LOCK_DEADLOCK",
            "you were chosen as the victim; on Galera also at COMMIT, where another node was first",
        ),
        (1402, "ER_XA_RBROLLBACK", "the branch of a two-phase transaction was given up"),
        (1613, "ER_XA_RBTIMEOUT", "the branch of a two-phase transaction took too long"),
        (1614, "ER_XA_RBDEADLOCK", "the branch of a two-phase transaction was the victim of a deadlock"),
    ),
    *rows_of(
        Fault.UNAVAILABLE,
        Left.GOES_ON,
        (1037, "ER_OUTOFMEMORY", "memory that others give back"),
        (1041, "ER_OUT_OF_RESOURCES", "memory that others give back"),
        (1290, "ER_OPTION_PREVENTS_STATEMENT", "read-only while a failover lasts; at COMMIT rolled back"),
        (1297, "ER_GET_TEMPORARY_ERRMSG", "the engine calls it temporary"),
        (1317, "ER_QUERY_INTERRUPTED", "somebody stopped this one statement, not the work"),
        (1412, "ER_TABLE_DEF_CHANGED", "a migration changed a table after your snapshot"),
        (1461, "ER_MAX_PREPARED_STMT_COUNT_REACHED", "statements that others give back"),
        (1615, "ER_NEED_REPREPARE", "a table changed under a prepared statement"),
        (1637, "ER_TOO_MANY_CONCURRENT_TRXS", "others end theirs"),
        (1836, "ER_READ_ONLY_MODE", "read-only while a failover lasts; at COMMIT rolled back"),
    ),
    *rows_of(
        Fault.UNAVAILABLE,
        Left.MAYBE_ROLLED_BACK,
        (1047, "ER_UNKNOWN_COM_ERROR", "Galera: the node is not, or no longer, part of a quorum"),
    ),
    *rows_of(
        Fault.UNAVAILABLE,
        Left.NONE_BEGUN,
        (1040, "ER_CON_COUNT_ERROR", "too many connections of the server: one becomes free"),
        (1042, "ER_BAD_HOST_ERROR", "the server's resolver has no answer now"),
        (1135, "ER_CANT_CREATE_THREAD", "the server has no room for one more thread now"),
        (1203, "ER_TOO_MANY_USER_CONNECTIONS", "too many connections of the user: one becomes free"),
        (1226, "ER_USER_LIMIT_REACHED", "connections of the user, or what it may do in an hour"),
    ),
    *rows_of(
        Fault.LOST,
        Left.GONE,
        (0, "not connected", "PyMySQL and asyncmy: the connection is closed"),
        (1053, "ER_SERVER_SHUTDOWN", "the server stops"),
        (1080, "ER_FORCING_CLOSE", "the server stops"),
        (1152, "ER_ABORTING_CONNECTION", "the connection broke"),
        (1156, "ER_NET_PACKETS_OUT_OF_ORDER", "the connection is of no more use"),
        (1158, "ER_NET_READ_ERROR", "the connection broke"),
        (1159, "ER_NET_READ_INTERRUPTED", "the connection was silent for too long"),
        (1160, "ER_NET_ERROR_ON_WRITE", "the connection broke"),
        (1161, "ER_NET_WRITE_INTERRUPTED", "the connection was silent for too long"),
        (1184, "ER_NEW_ABORTING_CONNECTION", "the connection broke"),
        (2000, "CR_UNKNOWN_ERROR", "the connection is of no more use"),
        (2001, "CR_SOCKET_CREATE_ERROR", "no socket to be had now"),
        (2002, "CR_CONNECTION_ERROR", "no server at the socket now"),
        (2003, "CR_CONN_HOST_ERROR", "no server at the address now"),
        (2005, "CR_UNKNOWN_HOST", "the name has no address now"),
        (2006, "CR_SERVER_GONE_ERROR", "the connection is gone"),
        (2012, "CR_SERVER_HANDSHAKE_ERR", "the connection broke while it was made"),
        (2013, "CR_SERVER_LOST", "the connection broke; of a lost COMMIT only a recorded message id tells"),
        (2014, "CR_COMMANDS_OUT_OF_SYNC", "the connection is of no more use"),
        (2027, "CR_MALFORMED_PACKET", "the connection is of no more use"),
        (2045, "CR_SHARED_MEMORY_CONNECT_ABANDONED_ERROR", "the connection is gone"),
        (2048, "CR_INVALID_CONN_HANDLE", "the connection is gone"),
        (2055, "CR_SERVER_LOST_EXTENDED", "the connection broke"),
    ),
    *rows_of(
        Fault.AFTERMATH,
        Left.ROLLED_BACK,
        (1305, "ER_SP_DOES_NOT_EXIST", "the savepoint went with the transaction that an earlier error ended"),
    ),
    *rows_of(
        Fault.OTHER,
        Left.GOES_ON,
        (1021, "ER_DISK_FULL", "somebody must make room"),
        (1022, "ER_DUP_KEY", "the row is there already, by a key that the server does not name"),
        (1026, "ER_ERROR_ON_WRITE", "the disk is broken"),
        (1030, "ER_GET_ERRNO", "the engine is broken"),
        (1034, "ER_NOT_KEYFILE", "the index must be repaired"),
        (1036, "ER_OPEN_AS_READONLY", "the table is read-only"),
        (1038, "ER_OUT_OF_SORTMEMORY", "the limit stays as it is"),
        (1044, "ER_DBACCESS_DENIED_ERROR", "a GRANT is missing"),
        (1048, "ER_BAD_NULL_ERROR", "give the column a value by `on_create`, or a default"),
        (1054, "ER_BAD_FIELD_ERROR", "the column went, or the migration is still to come"),
        (1064, "ER_PARSE_ERROR", "the same statement is refused again"),
        (1100, "ER_TABLE_NOT_LOCKED", "you hold LOCK TABLES on others"),
        (1105, "ER_UNKNOWN_ERROR", "nothing is known of it"),
        (1114, "ER_RECORD_FILE_FULL", "somebody must make room"),
        (1142, "ER_TABLEACCESS_DENIED_ERROR", "a GRANT is missing"),
        (1143, "ER_COLUMNACCESS_DENIED_ERROR", "a GRANT is missing"),
        (1146, "ER_NO_SUCH_TABLE", "the table went, or the migration is still to come"),
        (1176, "ER_KEY_DOES_NOT_EXISTS", "the index that we name has gone"),
        (1197, "ER_TRANS_CACHE_FULL", "the same transaction is too large again"),
        (1207, "ER_READ_ONLY_TRANSACTION", "READ UNCOMMITTED takes no such lock"),
        (1223, "ER_CANT_UPDATE_WITH_READLOCK", "you hold the read lock yourself"),
        (1227, "ER_SPECIFIC_ACCESS_DENIED_ERROR", "a GRANT is missing"),
        (1264, "ER_WARN_DATA_OUT_OF_RANGE", "the same value is refused again"),
        (1292, "ER_TRUNCATED_WRONG_VALUE", "the same value is refused again"),
        (1364, "ER_NO_DEFAULT_FOR_FIELD", "give the column a value by `on_create`, or a default"),
        (1366, "ER_TRUNCATED_WRONG_VALUE_FOR_FIELD", "the same value is refused again"),
        (1406, "ER_DATA_TOO_LONG", "the same value is refused again"),
        (1442, "ER_CANT_UPDATE_USED_TABLE_IN_SF_OR_TRG", "a trigger of yours"),
        (1451, "ER_ROW_IS_REFERENCED_2", "the same row is refused again"),
        (1452, "ER_NO_REFERENCED_ROW_2", "what the row points at is missing: insert it before the ticket"),
        (1644, "ER_SIGNAL_EXCEPTION", "a trigger of yours refuses the row"),
        (1785, "ER_GTID_UNSAFE_NON_TRANSACTIONAL_TABLE", "the table's engine has no transactions"),
        (1792, "ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION", "you began the transaction as READ ONLY"),
        (1874, "ER_INNODB_READ_ONLY", "the server was started for reading only"),
    ),
    *rows_of(
        Fault.OTHER,
        Left.GONE,
        (1153, "ER_NET_PACKET_TOO_LARGE", "the same statement is too large again"),
    ),
    *rows_of(
        Fault.OTHER,
        Left.NONE_BEGUN,
        (1043, "ER_HANDSHAKE_ERROR", "client and server do not understand each other"),
        (1045, "ER_ACCESS_DENIED_ERROR", "user or password"),
        (1049, "ER_BAD_DB_ERROR", "there is no such database"),
        (1129, "ER_HOST_IS_BLOCKED", "somebody must run FLUSH HOSTS"),
        (1130, "ER_HOST_NOT_PRIVILEGED", "the server takes nobody from your address"),
        (2026, "CR_SSL_CONNECTION_ERROR", "the certificates, or the settings of TLS"),
        (2059, "CR_AUTH_PLUGIN_CANNOT_LOAD", "the driver lacks the way of logging in"),
        (2061, "CR_AUTH_PLUGIN_ERR", "the driver lacks the way of logging in"),
    ),
)
"""What MariaDB and MySQL have in common, and what their drivers say."""

_MARIADB = (
    *rows_of(
        Fault.UNAVAILABLE,
        Left.GOES_ON,
        (1969, "ER_STATEMENT_TIMEOUT", "`max_statement_time`: mostly a lock or a busy server"),
    ),
    *rows_of(
        Fault.RESTART,
        Left.ROLLED_BACK,
        (1964, "ER_PRIOR_COMMIT_FAILED", "a COMMIT that went before it failed"),
    ),
    *rows_of(Fault.LOST, Left.GONE, (1927, "ER_CONNECTION_KILLED", "somebody ended this connection")),
    *rows_of(
        Fault.OTHER, Left.GOES_ON, (4025, "ER_CONSTRAINT_FAILED", "the constraint refuses what the row says")
    ),
)

_MYSQL = (
    *rows_of(
        Fault.RESTART,
        Left.GOES_ON,
        (3572, "ER_LOCK_NOWAIT", "NOWAIT: whoever has the lock lets go of it"),
    ),
    *rows_of(
        Fault.RESTART,
        Left.ROLLED_BACK,
        (3100, "ER_RUN_HOOK_ERROR", "Group Replication: the COMMIT met no quorum, or took too long"),
        (3101, "ER_TRANSACTION_ROLLBACK_DURING_COMMIT", "Group Replication: another primary was first"),
    ),
    *rows_of(
        Fault.UNAVAILABLE,
        Left.GOES_ON,
        (3015, "ER_ENGINE_OUT_OF_MEMORY", "memory that others give back"),
        (3024, "ER_QUERY_TIMEOUT", "`max_execution_time`: mostly a busy server"),
    ),
    *rows_of(
        Fault.UNAVAILABLE,
        Left.NONE_BEGUN,
        (3032, "ER_SERVER_OFFLINE_MODE", "somebody works on the server"),
        (3168, "ER_SERVER_ISNT_AVAILABLE", "the server is starting or stopping"),
    ),
    *rows_of(
        Fault.LOST,
        Left.GONE,
        (3169, "ER_SESSION_WAS_KILLED", "somebody ended this connection"),
        (4031, "ER_CLIENT_INTERACTION_TIMEOUT", "the connection was unused for too long"),
    ),
    *rows_of(
        Fault.OTHER,
        Left.GOES_ON,
        (
            3098,
            "ER_BEFORE_DML_VALIDATION_ERROR",
            "Group Replication: the table has no primary key, or no InnoDB",
        ),
        (3819, "ER_CHECK_CONSTRAINT_VIOLATED", "the constraint refuses what the row says"),
    ),
)

CODES = ErrorCodes(
    "MariaDB and MySQL",
    # No number means two things to a statement of ours, and the drivers do not tell the servers apart.
    (*_INNODB, *_MARIADB, *_MYSQL),
    Row("other", "any other", Fault.OTHER, Left.GOES_ON, "nothing is known of it"),
)


def _find(error: BaseException, code: Code) -> Row | None:
    # SQLite has numbers too, and says so.
    return CODES.row(code) if isinstance(code, int) and not hasattr(error, "sqlite_errorcode") else None


# --- the names in a text --------------------------------------------------------------------------------------

_QUOTED = r"'([^'`]+)'"
_TICKED = r"`([^`]+)`"
_ROW = r" at row \d+\Z"


def _by(pattern: str, what: str) -> Callable[[str], Named]:
    found = re.compile(pattern, re.DOTALL)

    def named(text: str) -> Named:
        return [(what, name[1])] if (name := found.search(text)) else []

    return named


_FOREIGN_KEY = _by(rf"\A[^`]*\(`[^`]*`\.`[^`]*`, CONSTRAINT {_TICKED} FOREIGN KEY \(", "constraint")
_ITS_COLUMN = _by(rf"\A[^`]*\(`[^`]*`\.`[^`]*`, CONSTRAINT `[^`]*` FOREIGN KEY \({_TICKED}\) ", "column")
_AT_THE_END = _by(rf"(?:'[^'`]*'|.*) for column (?:`[^`]*`\.`[^`]*`\.`|')([^'`]+)['`]{_ROW}", "column")
_COLUMN_FIRST = _by(rf"\A[A-Za-z ]+ {_QUOTED}(?: cannot be null| doesn't have a default value)\Z", "column")
_COLUMN_LAST = _by(rf"\A[A-Za-z ]+ for column {_QUOTED}{_ROW}", "column")

_TEXTS: Mapping[int, tuple[Callable[[str], Named], ...]] = {
    1048: (_COLUMN_FIRST,),
    1062: (_by(rf" for key {_QUOTED}\Z", "constraint"),),
    1264: (_COLUMN_LAST,),
    1265: (_COLUMN_LAST,),
    1364: (_COLUMN_FIRST,),
    1366: (_AT_THE_END,),
    1406: (_COLUMN_LAST,),
    1451: (_FOREIGN_KEY, _ITS_COLUMN),
    1452: (_FOREIGN_KEY, _ITS_COLUMN),
    3819: (_by(rf"\ACheck constraint {_QUOTED} is violated\.\Z", "constraint"),),
    4025: (_by(rf"\ACONSTRAINT {_TICKED} failed for `[^`]*`\.`[^`]*`\Z", "constraint"),),
}
"""By number: the texts of MariaDB and MySQL in English; of those in another language nothing is taken."""


def _names(error: Any) -> Named:
    match getattr(error, "args", ()):
        case [int() as number, str() as text]:
            return [each for named in _TEXTS.get(number, ()) for each in named(text)]
        case _:
            return []


_INDEX = re.compile(r"for key '(?:[^']*\.)?([^'.]+)'\s*\"?\)?$")


def _index_in(error: Any) -> str | None:
    found = _INDEX.search(str(error))
    return None if found is None else found[1]


ERRORS = Errors(
    CODES,
    _find,
    _names,
    _index_in,
    frozenset({"asyncmy", "MySQLdb", "pymysql"}),
    # A look names an index that is not there.
    rule_gone=frozenset({1176}),
    # A column, a table.
    changed=frozenset({1054, 1146}),
    unharmed=frozenset({1176, 1054}),
)
