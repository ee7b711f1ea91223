"""The Grafana dashboards as code; `python -m infra.dashboards` writes infra/grafana/dashboards."""
