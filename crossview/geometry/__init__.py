"""Pure geometry of panoramas: cameras, boxes, ground, world frames. Imports nothing else of the package."""
