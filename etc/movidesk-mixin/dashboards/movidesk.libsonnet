// One page for the supervisor and the admin: who waits, how calls went, what Movidesk and the PBX do.
local panels = import 'panels.libsonnet';

function(config)
  local join(parts) = std.join(', ', std.filter(function(part) part != '', parts));
  local all = join([config.selector, 'instance=~"$instance"']);
  local ofQueue = join([all, 'queue=~"$queue"']);
  local query = panels.query;
  local rate(metric, matchers, by) = 'sum by (%s) (rate(%s{%s}[$__rate_interval]))' % [by, metric, matchers];
  local increase(metric, matchers, by) = 'sum by (%s) (increase(%s{%s}[$__rate_interval]))' % [by, metric, matchers];
  local quantile(value, metric, matchers, by='') =
    'histogram_quantile(%g, sum by (%s) (rate(%s_bucket{%s}[$__rate_interval])))' % [value, join([by, 'le']), metric, matchers];
  local quantiles(metric, matchers) = [
    query(quantile(0.5, metric, matchers), 'median'),
    query(quantile(0.95, metric, matchers), '95 %'),
  ];
  {
    title: 'Movidesk',
    uid: config.dashboardUid,
    tags: config.dashboardTags,
    schemaVersion: 39,
    editable: true,
    timezone: 'browser',
    time: { from: 'now-6h', to: 'now' },
    refresh: config.dashboardRefresh,
    templating: {
      list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus' },
        panels.variable('instance', 'PBX', 'label_values(movidesk_build_info{%s}, instance)' % config.selector),
        panels.variable('queue', 'Queue', 'label_values(movidesk_calls_ended_total{%s}, queue)' % join([all, 'mode!="made"'])),
      ],
    },
    panels: panels.rows([
      [5, [
        panels.stat('Callers who wait', 'In the line of all chosen queues.', 'none', [
          query('sum(movidesk_line_callers{%s})' % ofQueue),
        ], 5, 10),
        panels.stat('Longest wait', 'Of those who wait now.', 's', [
          query('max(movidesk_line_longest_wait_seconds{%s})' % ofQueue),
        ], 120, config.longestWaitSeconds),
        panels.stat('Calls with agents', 'Calls in which a caller and an agent talk.', 'none', [
          query('sum(movidesk_calls_with_agents{%s})' % all),
        ]),
        panels.stat('Window used', 'Requests of the last minute, of those that we allow ourselves.', 'percentunit', [
          query('max(movidesk_window_requests{%(all)s} / movidesk_window_rate_requests{%(all)s})' % { all: all }),
        ], 0.8, 1),
        panels.stat('Oldest event', 'How long ago the oldest event happened that Movidesk is to be told.', 's', [
          query('max(movidesk_outbox_age_seconds{%s})' % all),
        ], 300, config.outboxAgeSeconds),
        panels.stat('Alarms', 'How many stand.', 'none', [
          query('sum(movidesk_alarm_active{%s})' % all),
        ], 1, 1),
      ]],
      [8, [
        panels.graph('The line', 'Callers who wait, by queue.', 'none', [
          query('sum by (queue) (movidesk_line_callers{%s})' % ofQueue, '{{queue}}'),
        ], stacked=true),
        panels.graph('Longest and expected wait', 'Of those who wait, and of the next caller.', 's', [
          query('max by (queue) (movidesk_line_longest_wait_seconds{%s})' % ofQueue, '{{queue}}, longest'),
          query('max by (queue) (movidesk_line_expected_wait_seconds{%s})' % ofQueue, '{{queue}}, expected'),
        ]),
      ]],
      [8, [
        panels.graph('Calls that ended', 'By ending.', 'none', [
          query(increase('movidesk_calls_ended_total', join([ofQueue, 'mode!="made"']), 'ending'), '{{ending}}'),
          query(increase('movidesk_calls_ended_total', join([all, 'mode="made"']), 'ending'), 'made call, {{ending}}'),
        ], stacked=true),
        panels.graph('Waits of answered callers', '', 's',
                     quantiles('movidesk_call_wait_seconds', join([ofQueue, 'result="answered"']))),
        panels.graph('Waits of callers who left or were lost', '', 's',
                     quantiles('movidesk_call_wait_seconds', join([ofQueue, 'result!~"answered|closed"']))),
        panels.graph('Talks', '', 's', quantiles('movidesk_call_talk_seconds', ofQueue)),
      ]],
      [8, [
        panels.graph('Callers answered within 20 s', 'Of those who were answered.', 'percentunit', [
          query('%s / %s' % [
            rate('movidesk_call_wait_seconds_bucket', join([ofQueue, 'result="answered"', 'le="20.0"']), 'queue'),
            rate('movidesk_call_wait_seconds_count', join([ofQueue, 'result="answered"']), 'queue'),
          ], '{{queue}}'),
        ]),
        panels.graph('The caller on the screen', "From the agent's answer until Movidesk knew of it.", 's',
                     quantiles('movidesk_screen_delay_seconds', all)),
        panels.graph('Open calls', 'Calls that have not ended, and those with agents.', 'none', [
          query('sum(movidesk_calls_open{%s})' % all, 'open'),
          query('sum(movidesk_calls_with_agents{%s})' % all, 'with agents'),
        ]),
      ]],
      [8, [
        panels.graph('Requests of the last minute', 'Used, allowed by ourselves, and the limit.', 'none', [
          query('sum by (instance) (movidesk_window_requests{%s})' % all, '{{instance}}, used'),
          query('sum by (instance) (movidesk_window_rate_requests{%s} < 100000)' % all, '{{instance}}, allowed'),
          query('sum by (instance) (movidesk_window_limit_requests{%s} < 100000)' % all, '{{instance}}, limit'),
        ]),
        panels.graph('Requests by result', 'A minute. throttled: 429.', 'none', [
          query('60 * ' + rate('movidesk_api_requests_total', all, 'result'), '{{result}}'),
        ], stacked=true),
        panels.graph('Answers of Movidesk', '95 % are faster, by endpoint.', 's', [
          query(quantile(0.95, 'movidesk_api_request_duration_seconds', all, 'endpoint'), '{{endpoint}}'),
        ]),
        panels.graph('Pause', 'Seconds until requests are sent again after a 429.', 's', [
          query('max by (instance) (movidesk_pause_seconds{%s})' % all, '{{instance}}'),
        ]),
      ]],
      [8, [
        panels.graph('Events that wait', 'Pending, and refused: those are set aside.', 'none', [
          query('sum by (status) (movidesk_outbox_events{%s})' % all, '{{status}}'),
        ]),
        panels.graph('What went wrong', 'Calls that a sweep ended or that went on without us, lines of the emergency file, standbys, failed sweeps.', 'none', [
          query(increase('movidesk_swept_calls_total', all, 'instance'), 'swept calls, {{instance}}'),
          query(increase('movidesk_fail_opens_total', all, 'cause'), 'fail open, {{cause}}'),
          query(increase('movidesk_emergency_lines_total', all, 'result'), 'emergency lines, {{result}}'),
          query(increase('movidesk_standby_begins_total', all, 'instance'), 'standby, {{instance}}'),
          query(increase('movidesk_sweeps_total', join([all, 'result="failed"']), 'instance'), 'failed sweeps, {{instance}}'),
        ]),
        panels.graph('Files', 'The journal, and the emergency files that wait.', 'bytes', [
          query('sum by (instance) (movidesk_journal_size_bytes{%s})' % all, 'journal, {{instance}}'),
          query('sum by (instance) (movidesk_emergency_file_bytes{%s})' % all, 'emergency, {{instance}}'),
        ]),
      ]],
      [6, [
        panels.list('Alarms that stand', 'docs/operations.md has their meanings.', query('movidesk_alarm_active{%s} == 1' % all), ['instance', 'alarm']),
        panels.list('PBXs', '', query('movidesk_build_info{%s}' % all), ['instance', 'pbx', 'version']),
        panels.stat('Journal', '1: it can be read.', 'none', [
          query('min by (instance) (movidesk_journal_readable{%s})' % all, '{{instance}}'),
        ]),
        panels.stat('Standby', '1: a second journal in memory replaces the journal.', 'none', [
          query('max by (instance) (movidesk_standby_active{%s})' % all, '{{instance}}'),
        ], 1, 1),
        panels.stat('Last delivery', 'How long ago a process said that it delivers events.', 's', [
          query('time() - max by (instance) (movidesk_delivery_timestamp_seconds{%s})' % all, '{{instance}}'),
        ], 120, 180),
      ]],
    ]),
  }
