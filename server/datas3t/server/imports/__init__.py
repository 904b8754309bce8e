"""Imports: archives that are in a bucket and not in the database get rows."""

from datas3t.server.imports.steps import Step, run

__all__ = ["Step", "run"]
