"""S3: calls, presigned URLs, and the check of a new bucket.

The loggers of botocore and its HTTP library write requests whole, signatures and all, at DEBUG. They never may.
"""

import logging

for _name in ("boto3", "botocore", "urllib3", "s3transfer"):
    logging.getLogger(_name).setLevel(logging.WARNING)
