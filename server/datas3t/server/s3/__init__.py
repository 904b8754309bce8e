"""S3: calls, presigned URLs, and the test of a new bucket configuration.

At DEBUG, botocore and its HTTP library log whole requests with their signatures, so their loggers are set to WARNING.
"""

import logging

for _name in ("boto3", "botocore", "urllib3", "s3transfer"):
    logging.getLogger(_name).setLevel(logging.WARNING)
