"""ImportService: translates messages, and calls the functions that do the work.

The module's name is plural because `import` is a keyword.
"""

from collections.abc import Iterator
from typing import Any

from datas3t import v1
from datas3t.server import imports
from datas3t.server.resources import Resources
from datas3t.v1.import_pb2_grpc import ImportServiceServicer


class ImportServicer(ImportServiceServicer):
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def Import(self, request: v1.ImportRequest, context: Any) -> Iterator[v1.ImportResponse]:
        for step in imports.run(self._resources, request.bucket_name, context.identity.pattern.matches):
            yield v1.ImportResponse(
                imported_datas3ts=step.imported,
                imported_count=step.imported_count,
                imported_tables=step.imported_tables,
                skipped=[v1.SkippedObject(object_key=each.key, reason=each.reason) for each in step.skipped],
                objects_seen=step.seen,
            )
