"""The plans of statements: what PostgreSQL reads to execute them, seen by a connection that explains each one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.abc import Params, Query

from datas3t.server.db.statement import Statement

_EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "
_EXPLAINABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


@dataclass(frozen=True)
class Node:
    """A step of a plan: its name, the table that it reads, and the rows that it has read from there."""

    kind: str
    table: str
    rows_read: int


@dataclass(frozen=True)
class Plan:
    """A statement that was executed, the steps of its plan, and the number of pages that it has looked at."""

    statement: str
    nodes: list[Node]
    pages: int

    @property
    def rows_read(self) -> int:
        """The number of rows that were read from tables, also those that a condition then left out."""
        return sum(node.rows_read for node in self.nodes)


class ExplainedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that explains and analyzes each statement, then undoes that and executes it."""

    plans: list[Plan]

    @classmethod
    def to(cls, url: str) -> "ExplainedConnection":
        """Connect to a database in autocommit mode."""
        conn = cls.connect(url, autocommit=True, prepare_threshold=None, cursor_factory=_ExplainedCursor)
        conn.plans = []
        return conn


@contextmanager
def explained_statements() -> Iterator[None]:
    """Have an `ExplainedConnection` explain also what is executed without a cursor."""
    execute = Statement._execute

    def explain(self: Statement, conn: Any, values: Mapping[str, Any], *form: Any) -> Any:
        conn.execute(self.text, values)
        with conn.transaction(force_rollback=True):  # the cursor has executed it already
            return execute(self, conn, values, *form)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Statement, "_execute", explain)
        yield


class _ExplainedCursor(psycopg.Cursor[Any]):
    def execute(self, query: Query, params: Params | None = None, **options: Any) -> "_ExplainedCursor":
        conn = self.connection
        assert isinstance(conn, ExplainedConnection)
        if isinstance(query, str) and query.strip().upper().startswith(_EXPLAINABLE):
            with conn.transaction(force_rollback=True), psycopg.Cursor(conn) as explaining:
                row = explaining.execute(f"{_EXPLAIN}{query}".encode(), params).fetchone()
            assert row is not None
            plan = row[0][0]["Plan"]
            pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            conn.plans.append(Plan(query, list(_nodes(plan)), pages))
        return super().execute(query, params, **options)  # type: ignore[arg-type]  # its overloads know no union


def _nodes(plan: dict[str, Any]) -> Iterator[Node]:
    loops = plan["Actual Loops"]
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    table = plan.get("Relation Name", "") if "Scan" in plan["Node Type"] else ""
    yield Node(plan["Node Type"], table, round((plan["Actual Rows"] + removed) * loops) if table else 0)
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
