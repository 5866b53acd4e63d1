"""The two-view network: placing, identity, targets and losses. Builds on the geometry and the detector."""
