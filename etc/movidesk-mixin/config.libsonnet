{
  _config+:: {
    // Restricts every query, such as 'job="movidesk"'. Empty: the metrics of all PBXs that this Prometheus has.
    selector: '',
    // The job_name in prometheus.yml, if Prometheus asks movidesk serve itself.
    job: 'movidesk',

    // Alarms with which calls and reports go on; the others are critical.
    mildAlarms: [
      'asterisk', 'clocks', 'damaged', 'emergency', 'extension', 'fleet', 'metrics', 'pause', 'phones', 'redis', 'refused',
    ],

    // A PBX that has sent metrics in this time is expected to go on. So long a PBX that was taken away is missed.
    missingRange: '7d',

    // An event of this age should have reached Movidesk. At 10 requests a minute a few minutes are normal.
    outboxAgeSeconds: 1800,
    // A caller has waited this long.
    longestWaitSeconds: 600,
    // 5 % of the agents got the caller's screen later than this after they had answered.
    screenDelaySeconds: 30,
    // With fewer screens in half an hour nothing is said.
    screenLeastCalls: 5,
    // 5 % of the requests to Movidesk took longer than this.
    requestSeconds: 5,
    // 429s in 15 minutes.
    throttledRequests: 5,
    // The share of requests that fail, and of callers who are lost or leave; with fewer calls in an hour nothing is said. Callers who
    // came while it was closed do not count.
    failedShare: 0.5,
    lostShare: 0.4,
    lostLeastCalls: 10,
    // Calls in an hour that only a sweep could end.
    sweptCalls: 5,

    dashboardUid: 'movidesk-agi',
    dashboardTags: ['movidesk', 'asterisk'],
    dashboardRefresh: '30s',
  },
}
