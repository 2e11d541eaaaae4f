"""The service's HTTP, loaded where [recordings] publish or [made_calls] listen is set: each has an address of its own.

    recordings  a Flask application: GET and HEAD of signed links
    made_calls  a Flask application: /call and /monitor
    server      waitress, which serves both, with our limits on connections, requests and time
"""
