// The alert rules and the dashboard as a mixin: add your own values to _config, see config.libsonnet.
(import 'config.libsonnet')
+ (import 'alerts/alerts.libsonnet')
+ (import 'dashboards/dashboards.libsonnet')
