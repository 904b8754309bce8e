"""What the server reads, checks and keeps of the objects in a bucket: archives and their indices."""
