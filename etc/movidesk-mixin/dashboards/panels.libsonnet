// Panels of Grafana, as far as this dashboard needs them.
{
  local datasource = { type: 'prometheus', uid: '${datasource}' },

  // A query; legend: such as '{{queue}}'.
  query(expr, legend=''): { expr: expr, legendFormat: legend, datasource: datasource },

  local panel(type, title, description, unit, queries, defaults) = {
    type: type,
    title: title,
    description: description,
    datasource: datasource,
    targets: std.mapWithIndex(function(index, query) query { refId: std.char(65 + index) }, queries),
    fieldConfig: { defaults: { unit: unit, min: 0 } + defaults, overrides: [] },
  },

  // Numbers that turn orange and red above these values.
  stat(title, description, unit, queries, warning=null, critical=null):: panel('stat', title, description, unit, queries, {
    thresholds: {
      mode: 'absolute',
      steps: [{ color: 'green', value: null }]
             + (if warning == null then [] else [{ color: 'orange', value: warning }])
             + (if critical == null then [] else [{ color: 'red', value: critical }]),
    },
  }) + { options: { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'value', graphMode: 'area' } },

  // Lines over time; stacked: as areas.
  graph(title, description, unit, queries, stacked=false):: panel('timeseries', title, description, unit, queries, {
    custom: { fillOpacity: if stacked then 40 else 5, stacking: { mode: if stacked then 'normal' else 'none' }, showPoints: 'never' },
  }) + { options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } } },

  // What is 1 of the first query, as rows of these labels.
  list(title, description, query, labels):: panel('table', title, description, 'none', [query { format: 'table', instant: true }], {}) + {
    transformations: [
      { id: 'filterFieldsByName', options: { include: { names: labels } } },
    ],
  },

  // Rows of panels, [height, [panel, ...]], below each other; the panels of a row share its width.
  rows(rows)::
    local place(y, height, panels) = [
      panels[index] { gridPos: { x: std.floor(24 * index / std.length(panels)), y: y, h: height, w: std.floor(24 / std.length(panels)) } }
      for index in std.range(0, std.length(panels) - 1)
    ];
    local placed = std.foldl(
      function(done, row) { y: done.y + row[0], panels: done.panels + place(done.y, row[0], row[1]) }, rows, { y: 0, panels: [] }
    ).panels;
    std.mapWithIndex(function(index, panel) panel { id: index + 1 }, placed),

  // A variable with the values of a label.
  variable(name, label, query):: {
    name: name,
    label: label,
    type: 'query',
    datasource: datasource,
    query: { query: query, refId: name },
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { text: 'All', value: '$__all' },
  },
}
