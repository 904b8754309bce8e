"""Reading datapoints: the catalogue of presigned URLs, indices, planning, and fetching of byte ranges."""
