"""Measurements side by side; never part of the test suite.

``python -m benchmarks.run [name ...]`` measures, ``python -m benchmarks.table`` puts the results into
``docs/performance.md``. Every benchmark is a module with a class of `benchmarks.benchmark.Benchmark`; all timing is in
`benchmarks.timing`.
"""
