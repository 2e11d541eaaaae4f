"""The service's HTTP servers, imported only if one of them is configured. Each has its own address.

    recordings  a Flask application: GET and HEAD of signed links
    made_calls  a Flask application: /call and /monitor
    metrics     a Flask application: /metrics
    panel       a Flask application: the page for wall screens and phones
    server      waitress, which serves them, with our limits on connections, requests and time
"""
