"""Shards of WebDataset, which others wrote, read into datas3ts."""
