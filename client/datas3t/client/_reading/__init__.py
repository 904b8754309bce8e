"""Reading datapoints: the catalogue of signed URLs, indices, planning, and fetching of byte ranges."""
