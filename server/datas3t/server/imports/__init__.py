"""Imports: datas3ts found again in a bucket and added to the catalogue."""
