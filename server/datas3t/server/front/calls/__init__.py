"""What happens around every call, over gRPC and over REST alike: admission, logging, metrics and errors."""
