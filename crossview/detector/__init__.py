"""The single-view detector: SSD300 on a VGG16 backbone."""
