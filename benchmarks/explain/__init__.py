"""Where an artifact lost answers on its way, stage by stage, and the likeliest cause, by trying hypotheses."""
