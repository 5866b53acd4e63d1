"""Metrics of detection in a view and between views.

Data flows from padded batches through `matching` (what became of each detection) and `keyed` (what is kept over
batches and processes) to `average_precision` and `cross_view`.
"""

from crossview.metrics.average_precision import DetectionAP
from crossview.metrics.cross_view import CrossViewMetrics

__all__ = ["CrossViewMetrics", "DetectionAP"]
