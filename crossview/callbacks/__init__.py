"""Lightning callbacks: what happens around the training."""
