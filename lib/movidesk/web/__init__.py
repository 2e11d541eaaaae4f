"""The service's HTTP servers, imported only if [recordings] publish or [made_calls] listen is set. Each has its own address.

    recordings  a Flask application: GET and HEAD of signed links
    made_calls  a Flask application: /call and /monitor
    server      waitress, which serves both, with our limits on connections, requests and time
"""
