"""The format: TAR rules, index records, names, spans, parts, joins (docs/format.md). No network, no database."""
