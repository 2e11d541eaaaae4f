"""A private Asterisk, SIP phones and the demo, for a checkout; not installed on a PBX."""
