"""Measures the library beside its peers; bench/run starts it, bench/README.md explains it."""
