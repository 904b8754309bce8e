"""Files that processes of one machine share: locks, a cache on disk, atomic writes and the user's folders."""
