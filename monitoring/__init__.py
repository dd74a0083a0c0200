"""What Prometheus and Grafana need to watch nodes: rules, dashboards, the page of metrics."""
