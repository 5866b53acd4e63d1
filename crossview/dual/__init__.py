"""Two views of the same objects: projection between them, its learned correction, its losses."""
