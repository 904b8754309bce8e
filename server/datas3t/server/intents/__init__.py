"""The state machine of uploads and aggregates: a row committed before anything is done in the bucket."""
