"""SQLAlchemy's asynchronous classes, where they can be had.

Law of this file: since SQLAlchemy 2.1 they need greenlet, which only the extra `asyncio` brings. Synchronous code
must not need it: without it no object is of these classes, and nobody can have made one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection as AsyncConnection
    from sqlalchemy.ext.asyncio import AsyncSession as AsyncSession
    from sqlalchemy.ext.asyncio import async_scoped_session as async_scoped_session
else:
    try:
        from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    except ImportError:
        AsyncConnection = type("AsyncConnection", (), {})
        AsyncSession = type("AsyncSession", (), {})
        async_scoped_session = type("async_scoped_session", (), {})
