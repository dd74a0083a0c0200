"""The daemon that Prometheus asks: GPUs, vLLM and the node itself on one page."""
