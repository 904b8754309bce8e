"""PostgreSQL: the connection pool, the migrations, and a module of SQL per table.

A module has its statements as constants, each above the typed function that executes it. The caller owns the
transaction.
"""
