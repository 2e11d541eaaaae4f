"""The panel: one page for a wall screen and for phones. It reads the journal and changes nothing.

    app       the Flask application: pages, the stream of news, search
    login     who may look: a password of the panel, or the login of a web server in front
    board     one thread that reads the journal for all viewers, and each viewer's stream
    sections  what is shown, as values for JSON
    source    the journal that is in use
    texts     the words of the page, in the viewer's language
    assets/   page, style and script; no build step, nothing from outside
"""
