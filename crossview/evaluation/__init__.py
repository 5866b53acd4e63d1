"""From a network's predictions to numbers and a report.

Data flows one way: `collect` (a test run hands over what the network says), `records` (what scoring needs, a scene a
pair), `predictions` (the same in a file), `baselines` (matches and placed boxes, in several ways), `scoring` (metrics),
then `curves`, `gallery` and `report` for the eye. `steps` puts them together.
"""
