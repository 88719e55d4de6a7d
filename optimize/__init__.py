"""The whole way, checkpoint to record, reusing what did not change."""
