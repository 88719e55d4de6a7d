"""Where two artifacts part: their tensors side by side, in the graph's order, and the likeliest cause."""
