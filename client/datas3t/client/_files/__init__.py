"""Files by name: packed into archives, pushed from folders and pulled into them."""
