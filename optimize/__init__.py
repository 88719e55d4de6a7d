"""Floor 9: the whole way, checkpoint to record, reusing what did not change."""
