"""A stand-in for Movidesk's telephony API, to rehearse against.

`model` is the API without a network (pure, its clock passed in), `web` serves it over HTTP with a page to look at,
`control` is the interface through which a test sets the scene and sees what arrived.
"""
