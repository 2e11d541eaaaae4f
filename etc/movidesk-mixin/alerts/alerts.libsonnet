// What an admin should be told. Most problems are alarms of movidesk-agi, which name their cause: one rule has all of them. The others
// are what no alarm says: that nothing is heard of a PBX, and that callers or agents suffer although nothing is broken.
{
  local config = $._config,
  // The metric `name` with these matchers, and those of the configuration.
  local metric(name, matchers='') =
    local all = std.join(', ', std.filter(function(part) part != '', [config.selector, matchers]));
    if all == '' then name else '%s{%s}' % [name, all],
  local rule(name, severity, duration, expr, summary, description) = {
    alert: name,
    expr: expr,
    'for': duration,
    labels: { severity: severity },
    annotations: { summary: summary, description: description },
  },
  local mild = std.join('|', config.mildAlarms),
  local increase(name, matchers, range) = 'sum by (instance) (increase(%s[%s]))' % [metric(name, matchers), range],
  local p95(name, range) =
    'histogram_quantile(0.95, sum by (instance, le) (rate(%s[%s])))' % [metric(name + '_bucket'), range],

  prometheusAlerts+:: {
    groups+: [
      {
        name: 'movidesk',
        rules: [
          rule(
            'MovideskDown', 'critical', '5m',
            'up{job="%s"} == 0' % config.job,
            'Prometheus does not reach movidesk-agi at {{ $labels.instance }}.',
            'movidesk serve does not run, or refuses the token: movidesk check, on the PBX.'
          ),
          rule(
            'MovideskMetricsMissing', 'critical', '5m',
            |||
              (
                group by (job, instance) (last_over_time(%(seen)s[%(range)s]))
                unless group by (job, instance) (%(seen)s)
              )
              or absent(last_over_time(%(seen)s[%(range)s]))
            ||| % { seen: metric('movidesk_build_info'), range: config.missingRange },
            '{{ if $labels.instance }}{{ $labels.instance }} sends no metrics.{{ else }}No PBX sends metrics.{{ end }}',
            'Is [metrics] set, and does movidesk serve, or cron with movidesk deliver --once, run? movidesk check, on the PBX.'
          ),
          rule(
            'MovideskMetricsOld', 'critical', '2m',
            'time() - %s > 300' % metric('movidesk_collected_timestamp_seconds'),
            'The metrics of {{ $labels.instance }} are old.',
            'The textfile was last written {{ $value | humanizeDuration }} ago: does movidesk serve run, and may it write there?'
          ),
          rule(
            'MovideskAlarmCritical', 'critical', '2m',
            '%s == 1' % metric('movidesk_alarm_active', 'alarm!~"%s"' % mild),
            'Alarm {{ $labels.alarm }} on {{ $labels.instance }}.',
            'movidesk status says what to do; docs/operations.md, "Alarms".'
          ),
          rule(
            'MovideskAlarm', 'warning', '5m',
            '%s == 1' % metric('movidesk_alarm_active', 'alarm=~"%s"' % mild),
            'Alarm {{ $labels.alarm }} on {{ $labels.instance }}; calls go on.',
            'movidesk status says what to do; docs/operations.md, "Alarms".'
          ),
          rule(
            'MovideskJournalUnreadable', 'critical', '2m',
            '%s == 0' % metric('movidesk_journal_readable'),
            'The journal of {{ $labels.instance }} cannot be read.',
            'movidesk check says why.'
          ),
          rule(
            'MovideskEventsLate', 'warning', '10m',
            '%s > %d' % [metric('movidesk_outbox_age_seconds'), config.outboxAgeSeconds],
            'Movidesk has not heard of events of {{ $labels.instance }}.',
            'The oldest happened {{ $value | humanizeDuration }} ago. movidesk outbox shows what waits, and why.'
          ),
          rule(
            'MovideskThrottled', 'warning', '0m',
            '%s > %d' % [increase('movidesk_api_requests_total', 'result="throttled"', '15m'), config.throttledRequests],
            'Movidesk rejects requests of {{ $labels.instance }} (429).',
            'Another program uses the account, or the limit is lower than requests_per_minute.'
          ),
          rule(
            'MovideskRequestsFail', 'warning', '10m',
            '%s / (%s > 3) > %g' % [
              increase('movidesk_api_requests_total', 'result=~"failed|unanswered"', '15m'),
              increase('movidesk_api_requests_total', '', '15m'),
              config.failedShare,
            ],
            'Requests of {{ $labels.instance }} to Movidesk fail.',
            '{{ $value | humanizePercentage }} of them in 15 minutes. movidesk check looks at the network, step by step.'
          ),
          rule(
            'MovideskRequestsSlow', 'warning', '15m',
            '%s > %d' % [p95('movidesk_api_request_duration_seconds', '15m'), config.requestSeconds],
            'Movidesk answers {{ $labels.instance }} slowly.',
            '5 % of the requests take more than {{ $value | humanizeDuration }}.'
          ),
          rule(
            'MovideskScreensLate', 'warning', '15m',
            |||
              %s > %d
              and sum by (instance) (increase(%s[30m])) >= %d
            ||| % [
              p95('movidesk_screen_delay_seconds', '30m'),
              config.screenDelaySeconds,
              metric('movidesk_screen_delay_seconds_count'),
              config.screenLeastCalls,
            ],
            'Agents of {{ $labels.instance }} see the caller late.',
            '5 % of the screens open more than {{ $value | humanizeDuration }} after the answer: the limit of requests is used up, or Movidesk is slow.'
          ),
          rule(
            'MovideskCallersWaitLong', 'warning', '2m',
            '%s > %d' % [metric('movidesk_line_longest_wait_seconds'), config.longestWaitSeconds],
            'Somebody waits long in queue {{ $labels.queue }} of {{ $labels.instance }}.',
            'For {{ $value | humanizeDuration }}. Are agents online in Movidesk?'
          ),
          rule(
            'MovideskCallersLost', 'warning', '5m',
            |||
              sum by (instance, queue) (increase(%s[1h]))
              / (sum by (instance, queue) (increase(%s[1h])) >= %d) > %g
            ||| % [
              metric('movidesk_calls_ended_total', 'mode!="made", ending=~"canceled|lost"'),
              metric('movidesk_calls_ended_total', 'mode!="made", ending!="closed"'),
              config.lostLeastCalls,
              config.lostShare,
            ],
            'Many callers of queue {{ $labels.queue }} of {{ $labels.instance }} reach nobody.',
            '{{ $value | humanizePercentage }} in the last hour. movidesk calls --unanswered shows them.'
          ),
          rule(
            'MovideskFailOpen', 'warning', '0m',
            '%s > 0' % 'sum by (instance, cause) (increase(%s[15m]))' % metric('movidesk_fail_opens_total'),
            'Calls of {{ $labels.instance }} went on without Movidesk ({{ $labels.cause }}).',
            'journal: it could not be used; request: the dialplan asks for what makes no sense; failure: a defect. The log of Asterisk and of the service say more.'
          ),
          rule(
            'MovideskCallsEndedBySweep', 'warning', '0m',
            '%s > %d' % [increase('movidesk_swept_calls_total', '', '1h'), config.sweptCalls],
            'Calls of {{ $labels.instance }} end without a word.',
            'Only a sweep ended them. Unless Asterisk was restarted, its hangup handlers do not run: movidesk check.'
          ),
        ],
      },
    ],
  },
}
