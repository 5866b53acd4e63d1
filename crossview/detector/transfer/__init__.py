"""Transfer of trained detectors: files of several projects and own checkpoints, into any detector with any classes.

``files`` and the readers beside it give what a file holds under the names of `crossview.detector.ssd.SSD`; ``classes``
and ``heads`` re-map class heads; ``load`` plans, checks, reports and copies.
"""
