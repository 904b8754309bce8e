"""The keys of the objects that belong to a row of a datarange, an upload or an aggregate, in SQL."""

from typing import LiteralString

# That of the checksums, whether there are any or not: what `names.checksums_key` returns.
CHECKSUMS: LiteralString = r"regexp_replace(data_object_key, '\.tar$', '') || '.crc32c'"

# Those of all objects, a row for each. Whoever deletes an archive deletes all of them: an older server may have left
# checksums that the row does not name.
ALL: LiteralString = f"(VALUES (data_object_key), (index_object_key), ({CHECKSUMS})) AS objects (object_key)"
