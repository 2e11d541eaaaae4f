"""Metrics for Prometheus, imported only if [metrics] is set: it needs prometheus_client.

    collector  reads facts and counters, and makes metrics of them
    textfile   the same as a file for node_exporter
"""
