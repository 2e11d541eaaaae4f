{
  grafanaDashboards+:: {
    'movidesk.json': (import 'movidesk.libsonnet')($._config),
  },
}
