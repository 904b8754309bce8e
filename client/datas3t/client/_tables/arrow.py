"""pyarrow, or the error that says how to install it.

All modules that need pyarrow take it from here, and nothing imports them before a call needs them.
"""

from importlib import import_module

from datas3t.client.errors import PackageMissing

_OLDEST = (14, 0, 1)  # older releases load pickles from files that they read
_ADVICE = "run: pip install 'datas3t[tables]'"

try:
    _version = str(import_module("pyarrow").__version__)
except ModuleNotFoundError:
    raise PackageMissing(f"this needs pyarrow; {_ADVICE}") from None
if tuple(int(part) for part in _version.split(".")[:3] if part.isdecimal()) < _OLDEST:
    raise PackageMissing(f"this needs pyarrow {'.'.join(map(str, _OLDEST))} or later, not {_version}; {_ADVICE}")

import pyarrow as pa  # noqa: E402 - after the check
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

__all__ = ["pa", "pc", "pq"]
