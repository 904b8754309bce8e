"""Rows in files of other formats: Parquet, CSV and JSON lines, read and written a part at a time."""

import base64
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.csv
import pyarrow.json

from datas3t.client._tables.arrow import pa, pq
from datas3t.client._tables.schemas import KEY, PATH
from datas3t.client._transfers import output_file
from datas3t.client.errors import FileError, InvalidArgument

FORMATS = (".parquet", ".csv", ".jsonl")
_BLOCK = 16 << 20  # bytes of CSV or JSON lines that are converted at a time
_MAX_LINE = 256 << 20  # bytes of one JSON object


def format_of(path: str) -> str:
    """Return the format that a file's name says; standard input and output, `-`, have JSON lines.

    Raises:
        InvalidArgument: It says none.
    """
    suffix = ".jsonl" if path == "-" else Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InvalidArgument(f"{path}: the name must end with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return suffix


def read(path: str, known: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of a file.

    Args:
        path: The file; `-` for JSON lines on standard input.
        known: The columns of the table that they are for: text in the file is converted to their types.

    Raises:
        FileError: The file cannot be read.
        InvalidArgument: It is not what its name says, or a value does not fit its column.
    """
    reader = _READERS[format_of(path)]
    with _opened(path) as file:
        try:
            yield from reader(file, _types(known))
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise InvalidArgument(f"{path}: {' '.join(str(error).split())}") from None


def write(path: str, schema: pa.Schema, tables: Iterator[pa.Table]) -> int:
    """Write rows to a file, which appears complete or not at all, and return how many.

    Args:
        path: The file; `-` for JSON lines on standard output.
        schema: The columns.
        tables: The rows.

    Raises:
        FileError: The file cannot be written.
        InvalidArgument: The format cannot hold a column.
    """
    writer = _WRITERS[format_of(path)]
    if path == "-":
        with open(sys.stdout.fileno(), "wb", closefd=False) as out:
            return writer(out, schema, tables)
    target = output_file.resolve(path)
    with output_file.partial_removed(target):
        with output_file.os_errors_as_file_error(target), output_file.partial(target).open("wb") as out:
            rows = writer(out, schema, tables)
        output_file.publish(target)
    return rows


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        file = open(sys.stdin.fileno() if path == "-" else path, "rb", closefd=path != "-")  # noqa: SIM115
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    with file:
        yield file


def _types(known: pa.Schema) -> dict[str, pa.DataType]:
    return {KEY: pa.int64(), PATH: pa.string()} | {field.name: field.type for field in known}


def _read_parquet(file: BinaryIO, _types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    parquet = pq.ParquetFile(file, pre_buffer=False)
    schema = parquet.schema_arrow
    for batch in parquet.iter_batches():
        yield pa.Table.from_batches([batch], schema)


def _read_csv(file: BinaryIO, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True),
    )
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _read_json(file: BinaryIO, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    for block in _lines(file):
        options = pyarrow.json.ParseOptions(explicit_schema=pa.schema(list(types.items())))
        table = pyarrow.json.read_json(
            io.BytesIO(block), pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1), options
        )
        # The columns that are known are there even where no row has them.
        has = [name for name in table.column_names if table.column(name).null_count < len(table)]
        for name in has:
            types.setdefault(name, table.schema.field(name).type)
        yield table.select(has)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield blocks of whole lines."""
    rest = b""
    while block := file.read(_BLOCK):
        whole, newline, after = block.rpartition(b"\n")
        if newline:
            yield rest + whole + newline
            rest = after
        else:
            rest += block
            if len(rest) > _MAX_LINE:
                raise ValueError(f"a line has more than {_MAX_LINE} bytes")
    if rest.strip():
        yield rest


def _write_parquet(out: BinaryIO, schema: pa.Schema, tables: Iterator[pa.Table]) -> int:
    rows = 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            rows += len(table)
    return rows


def _write_csv(out: BinaryIO, schema: pa.Schema, tables: Iterator[pa.Table]) -> int:
    rows = 0
    try:
        with pyarrow.csv.CSVWriter(out, schema) as writer:
            for table in tables:
                writer.write_table(table)
                rows += len(table)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidArgument(
            f"CSV cannot hold a column: {' '.join(str(error).split())}; use .jsonl or .parquet"
        ) from None
    return rows


def _write_json(out: BinaryIO, _schema: pa.Schema, tables: Iterator[pa.Table]) -> int:
    rows = 0
    for table in tables:
        for row in plain_rows(table):
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=True).encode("utf-8", "surrogatepass") + b"\n")
        rows += len(table)
    out.flush()
    return rows


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as JSON has them: times as text of ISO 8601, bytes in base64."""
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            # Python's own times have no nanoseconds.
            table = table.set_column(number, field.name, table.column(number).cast(pa.string()))
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


_Reader = Callable[[BinaryIO, dict[str, pa.DataType]], Iterator[pa.Table]]
_Writer = Callable[[BinaryIO, pa.Schema, Iterator[pa.Table]], int]
_READERS: dict[str, _Reader] = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_json}
_WRITERS: dict[str, _Writer] = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_json}
