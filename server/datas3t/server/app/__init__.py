"""Starts and stops everything: the server, its process, and the workers that share a port."""
