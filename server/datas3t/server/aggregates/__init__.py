"""Aggregates: many dataranges replaced by one."""
