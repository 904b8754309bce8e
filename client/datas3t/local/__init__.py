"""What processes of one machine share on disk: lock files, caches, the user's folders."""
