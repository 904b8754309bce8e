"""Aggregates: many dataranges become one, which takes their place in one transaction."""

from datas3t.server.aggregates.lifecycle import Started, cancel, complete, start
from datas3t.server.aggregates.part_plan import Signed, SignedPart, sign_parts

__all__ = ["Signed", "SignedPart", "Started", "cancel", "complete", "sign_parts", "start"]
