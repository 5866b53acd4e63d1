"""Two views of the same objects: projection between them by geometry or learned, its losses, matching."""
