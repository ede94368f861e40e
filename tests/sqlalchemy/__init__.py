"""The SQLAlchemy adapter: tables, indexes, statements and errors of the databases, by every driver."""
