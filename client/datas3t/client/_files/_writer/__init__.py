"""What a writer keeps on disk until it is committed, and how it is uploaded."""
