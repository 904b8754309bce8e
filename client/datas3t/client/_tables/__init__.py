"""Tables: what is known about datapoints, as Parquet files beside the dataranges (docs/tables.md)."""
